"""Writing weights in one of the forms, whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file

from sslam_lightning.checkpoints.formats.eat_hf import to_eat_hf
from sslam_lightning.checkpoints.formats.fairseq_export import to_fairseq
from sslam_lightning.checkpoints.formats.model_card import model_card
from sslam_lightning.checkpoints.formats.safetensors import WEIGHTS_NAME, to_safetensors
from sslam_lightning.checkpoints.weights import State, Weights

Form = Literal["safetensors", "eat_hf", "fairseq", "transformers"]


def write_weights(weights: Weights, target: Path, form: Form) -> tuple[str, ...]:
    """Write a model.

    Args:
        weights: its parts.
        target: a folder (``safetensors``, ``eat_hf``) or a file (``fairseq``), which must not exist yet.
        form: how.

    Returns:
        The parts that the form cannot hold.

    Raises:
        FileExistsError: if there is something at ``target``.
        ValueError: if the form cannot hold the encoder itself.
    """
    refuse_existing(target)
    if form == "fairseq":
        content, left_out = to_fairseq(weights)
        with written_whole(target) as temporary:
            torch.save(content, temporary)
        return left_out
    config, state, left_out = to_eat_hf(weights) if form == "eat_hf" else (*to_safetensors(weights), ())
    gone: dict[str, Any] = {part.partition(" ")[0]: None for part in left_out}
    card = model_card(weights._replace(**gone), target.name)
    with written_whole(target) as temporary:
        _write_folder(temporary, config, state, card)
    return left_out


def refuse_existing(target: Path) -> None:
    """Raise FileExistsError if there is anything at ``target``, be it a link that leads nowhere."""
    if os.path.lexists(target):
        raise FileExistsError(f"{target} exists already: move it, or name another target")


def _write_folder(folder: Path, config: dict[str, Any], state: State, card: str) -> None:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")
    (folder / "README.md").write_text(card, "utf-8")
    # Safetensors keeps no two names for one memory, and files of PyTorch may have them.
    copies = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in state.items()}
    save_file(copies, folder / WEIGHTS_NAME, {"format": "pt"})
    shutil.copymode(folder / "config.json", folder / WEIGHTS_NAME)  # it would be for its owner alone


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """A temporary name beside the target, a file or a folder, that becomes the target when all is written."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}.partial"
    try:
        yield temporary
        refuse_existing(target)
        os.rename(temporary, target)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)
