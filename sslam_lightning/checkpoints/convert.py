"""From any form of a checkpoint to any other."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, get_args

from sslam_lightning.checkpoints.formats.transformers import write_transformers
from sslam_lightning.checkpoints.hub import check_repository, push_to_hub
from sslam_lightning.checkpoints.read import read_weights
from sslam_lightning.checkpoints.weights import Part
from sslam_lightning.checkpoints.write import Form, refuse_existing, write_weights


class Converted(NamedTuple):
    """What was written, and what was not."""

    target: Path
    address: str | None  # where it is on the Hub
    left_out: tuple[str, ...]  # parts of the model that the target's form cannot hold
    unused: tuple[str, ...]  # keys of the source that no part took


def convert(
    source: str | Path,
    target: str | Path,
    to: Form = "shared",
    part: Part | None = None,
    push: str | None = None,
    private: bool = False,
) -> Converted:
    """Write a checkpoint in another form. Weights keep every bit.

    Args:
        source: what :func:`sslam_lightning.checkpoints.read_weights` opens.
        target: a folder, or for ``fairseq`` a file, which must not exist yet.
        to: the form; ``transformers`` is for models of Hugging Face transformers and the only one for them.
        part: keep only this encoder of a pre-trained model, as the one; by default both, where the form holds
            both, else the student.
        push: a repository on the Hub (``owner/name``) that the written folder is put into as well.
        private: who may see that repository, if it is new.

    Raises:
        FileExistsError: if there is something at ``target``.
        OSError: if there is no such source, or the target cannot be written.
        ValueError: if the source cannot be used, or the form cannot hold its encoder.
    """
    if to not in get_args(Form):
        raise ValueError(f"a checkpoint is converted to {', '.join(get_args(Form))}, got {to!r}")
    if push is not None:
        check_repository(push)
        if to == "fairseq":
            raise ValueError("what goes to the Hub is a folder: convert to shared or hugging_face, got fairseq")
    elif private:
        raise ValueError("private is for the repository that push makes: name one, or leave private out")
    target = Path(target)
    refuse_existing(target)
    if to == "transformers":
        if push is not None:
            raise ValueError("models of transformers go to the Hub by their own push_to_hub: leave --push out")
        return Converted(target, None, write_transformers(Path(source), target, part or "student"), ())
    weights = read_weights(source)
    if part is not None:
        weights = weights._replace(student=weights.part(part), teacher=None)
    left_out = write_weights(weights, target, to, push)
    return Converted(target, push_to_hub(target, push, private) if push else None, left_out, weights.unused)
