"""From any form of a checkpoint to any other."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, get_args

from sslam_lightning.checkpoints.formats.transformers import write_transformers
from sslam_lightning.checkpoints.read import read_weights
from sslam_lightning.checkpoints.weights import Part
from sslam_lightning.checkpoints.write import Form, refuse_existing, write_weights


class Converted(NamedTuple):
    """What was written, and what was not."""

    target: Path
    left_out: tuple[str, ...]  # parts of the model that the target's form cannot hold
    unused: tuple[str, ...]  # keys of the source that no part took


def convert(source: str | Path, target: str | Path, to: Form = "safetensors", part: Part | None = None) -> Converted:
    """Write a checkpoint in another form. Weights keep every bit.

    Args:
        source: what :func:`sslam_lightning.checkpoints.read_weights` opens.
        target: a folder, or for ``fairseq`` a file, which must not exist yet.
        to: the form; ``transformers`` is for models of Hugging Face transformers and the only one for them.
        part: keep only this encoder of a pre-trained model, as the one; by default both, where the form holds
            both, else the student.

    Raises:
        FileExistsError: if there is something at ``target``.
        OSError: if there is no such source, or the target cannot be written.
        ValueError: if the source cannot be used, or the form cannot hold its encoder.
    """
    if to not in get_args(Form):
        raise ValueError(f"a checkpoint is converted to {', '.join(get_args(Form))}, got {to!r}")
    target = Path(target)
    refuse_existing(target)
    if to == "transformers":
        return Converted(target, write_transformers(Path(source), target, part or "student"), ())
    weights = read_weights(source)
    if part is not None:
        weights = weights._replace(student=weights.part(part), teacher=None)
    return Converted(target, write_weights(weights, target, to), weights.unused)
