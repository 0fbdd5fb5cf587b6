"""A state and the module that it is for: the same names and shapes, finite numbers, or one line that says what not."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sslam_lightning.checkpoints.weights import State


def check_names_and_shapes(own: Mapping[str, Tensor], state: Mapping[str, Tensor], where: str) -> None:
    """Refuse a state that is not that of the module whose state is ``own``; ``where`` goes before a name: "a.ckpt: head.".

    Raises:
        ValueError: naming the first parameter that is missing, of another shape, or unknown.
    """
    for name, tensor in own.items():
        if name not in state:
            raise ValueError(f"{where}{name} is missing, which the model has: they are configured differently")
        if state[name].shape != tensor.shape:
            raise ValueError(
                f"{where}{name} has shape {tuple(state[name].shape)}, the model expects {tuple(tensor.shape)}: "
                "the configured size is not the checkpoint's"
            )
    if unknown := [name for name in state if name not in own]:
        raise ValueError(f"{where}{unknown[0]} is not in the model: they are configured differently")


def check_state(module: nn.Module, state: State, part: str, source: str) -> None:
    """Refuse a state that ``module`` cannot take over; the module may be on the meta device.

    Raises:
        ValueError: naming the first parameter that is missing, unknown, of another shape, or not a finite number.
    """
    check_names_and_shapes(module.state_dict(), state, f"{source}: {part}.")
    for name, tensor in state.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{source}: {part}.{name} holds values that are not finite")


def load_strictly(module: nn.Module, state: State, part: str, source: str) -> None:
    """Copy ``state`` into ``module``, all of it or nothing.

    Raises:
        ValueError: naming the first parameter that is missing, unknown, of another shape, or not a finite number.
    """
    check_state(module, state, part, source)
    module.load_state_dict(state)
