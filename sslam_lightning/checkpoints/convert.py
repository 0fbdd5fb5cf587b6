"""From any form of a checkpoint to any other."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import torch
from safetensors.torch import save_file

from sslam_lightning.checkpoints.card import model_card
from sslam_lightning.checkpoints.fairseq_export import to_fairseq
from sslam_lightning.checkpoints.hub import check_repository, push_to_hub
from sslam_lightning.checkpoints.hugging_face import to_hugging_face
from sslam_lightning.checkpoints.read import read_weights
from sslam_lightning.checkpoints.safetensors_file import NAME
from sslam_lightning.checkpoints.shared import to_shared
from sslam_lightning.checkpoints.weights import Part, State

Form = Literal["shared", "hugging_face", "fairseq"]


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
        target: a folder (``shared``, ``hugging_face``) or a file (``fairseq``), which must not exist yet.
        to: the form.
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
    target = Path(target)
    _refuse_existing(target)
    weights = read_weights(source)
    if part is not None:
        weights = weights._replace(student=weights.part(part), teacher=None)
    left_out: tuple[str, ...] = ()
    if to == "fairseq":
        content, left_out = to_fairseq(weights)
        with _written_whole(target) as temporary:
            torch.save(content, temporary)
        return Converted(target, None, left_out, weights.unused)
    if to == "hugging_face":
        config, state, left_out = to_hugging_face(weights)
    else:
        config, state = to_shared(weights)
    with _written_whole(target) as temporary:
        temporary.mkdir()
        origin = str(source) if not Path(source).exists() else Path(source).resolve().name
        _write_folder(temporary, config, state, model_card(weights, push or target.name, origin))
    return Converted(target, push_to_hub(target, push, private) if push else None, left_out, weights.unused)


def _write_folder(folder: Path, config: dict[str, Any], state: State, card: str) -> None:
    (folder / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")
    (folder / "README.md").write_text(card, "utf-8")
    # Safetensors keeps no two names for one memory, and files of PyTorch may have them.
    copies = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in state.items()}
    save_file(copies, folder / NAME, {"format": "pt"})


def _refuse_existing(target: Path) -> None:
    if os.path.lexists(target):
        raise FileExistsError(f"{target} exists already: move it, or name another target")


@contextmanager
def _written_whole(target: Path) -> Iterator[Path]:
    """A temporary name beside the target that becomes the target when all is written, and nothing before."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}.partial"
    try:
        yield temporary
        _refuse_existing(target)
        os.rename(temporary, target)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)
