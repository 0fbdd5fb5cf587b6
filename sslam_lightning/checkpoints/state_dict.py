"""Weights by their names: read from a file as data, compared with a module, and loaded into it, all or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sslam_lightning.checkpoints.messages import shown
from sslam_lightning.checkpoints.weights import State

_MAX_NAME = 200


def read_state(state: Any, where: str, max_bytes: int | None = None) -> State:
    """A table of weights, if it is one: ordinary tensors, each with memory of its own.

    Args:
        state: what a file holds.
        where: what to call it in messages.
        max_bytes: more than the file can hold; a file may say the same bytes are many weights.

    Raises:
        ValueError: naming the first key that is not one of a weight.
    """
    if not isinstance(state, Mapping):
        raise ValueError(f"{where} must be a table of weights, got {shown(state)}")
    total = 0
    for key, value in state.items():
        if not isinstance(key, str) or not key.isprintable() or not 0 < len(key) <= _MAX_NAME:
            raise ValueError(f"{where} has a key that is no weight's name: {shown(key)}")
        if not isinstance(value, Tensor):
            raise ValueError(f"{where}: {key} must be a tensor, got {shown(value)}")
        if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
            raise ValueError(f"{where}: {key} is no ordinary tensor of numbers")
        if value.nbytes > value.untyped_storage().nbytes():
            raise ValueError(f"{where}: {key} claims the shape {tuple(value.shape)} with the memory of a smaller one")
        total += value.nbytes
    if max_bytes is not None and total > max_bytes:
        raise ValueError(f"{where} claims {total} bytes of weights, the file has {max_bytes}")
    return dict(state)


def with_prefix(state: Mapping[str, Tensor], prefix: str) -> State:
    """The weights whose names begin with ``prefix``, without it."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def count_stack(state: State, stack: str) -> int:
    """How many modules a state has in a stack such as ``blocks``."""
    return len({name.partition(".")[0] for name in with_prefix(state, f"{stack}.")})


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
    """Refuse a state that ``module`` cannot load, as `load_state_dict_strict` does; it may be on the meta device."""
    check_names_and_shapes(module.state_dict(), state, f"{source}: {part}.")
    for name, tensor in state.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{source}: {part}.{name} holds values that are not finite")


def load_state_dict_strict(module: nn.Module, state: State, part: str, source: str) -> None:
    """Copy ``state`` into ``module``, all of it or nothing.

    Raises:
        ValueError: naming the first parameter that is missing, unknown, of another shape, or not a finite number.
    """
    check_state(module, state, part, source)
    module.load_state_dict(state)
