"""Opening checkpoint files as data: nothing in them is executed."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from sslam_lightning.checkpoints.fairseq import from_fairseq, model_section
from sslam_lightning.checkpoints.lightning import from_lightning
from sslam_lightning.checkpoints.mae_ast import from_mae_ast
from sslam_lightning.checkpoints.weights import State, Weights


def read_weights(path: str | Path) -> Weights:
    """The weights of a fairseq ``.pt`` file or of one of our own Lightning ``.ckpt`` files.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, unsafe, or of another project.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=None)
    except Exception as error:  # a damaged file fails in many ways
        reason = str(error).strip().splitlines()
        raise ValueError(f"{path} cannot be opened as a checkpoint: {reason[0] if reason else error!r}") from None
    if isinstance(content, dict) and "pytorch-lightning_version" in content:
        return from_lightning(content, str(path))
    if isinstance(content, dict) and isinstance(content.get("model"), dict) and isinstance(content.get("cfg"), dict):
        if "decoder_mask_emb" in content["model"]:
            return from_mae_ast(content["model"], content["cfg"].get("model") or {}, str(path))
        return from_fairseq(content["model"], model_section(content["cfg"], str(path)), str(path))
    raise ValueError(f"{path} is neither a fairseq checkpoint (model, cfg) nor one of this project")


def load_strictly(module: nn.Module, state: State, part: str, source: str) -> None:
    """Copy ``state`` into ``module``, all of it or nothing.

    Raises:
        ValueError: naming the first parameter that is missing, unknown, of another shape, or not a finite number.
    """
    own = module.state_dict()
    for name, tensor in own.items():
        if name not in state:
            raise ValueError(f"{source}: its {part} has no {name}")
        if state[name].shape != tensor.shape:
            raise ValueError(
                f"{source}: {part}.{name} has shape {tuple(state[name].shape)}, the model expects {tuple(tensor.shape)}: "
                "the configured size is not the checkpoint's"
            )
        if not torch.isfinite(state[name]).all():
            raise ValueError(f"{source}: {part}.{name} holds values that are not finite")
    if unknown := [name for name in state if name not in own]:
        raise ValueError(f"{source}: its {part} has {unknown[0]}, which the model lacks")
    module.load_state_dict(state)
