"""A module's settings in a checkpoint: plain data, so that it opens without pickle, whoever built the module."""

from __future__ import annotations

import inspect
from abc import ABC
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import nn

from sslam_lightning.checkpoints import check_names_and_shapes


def plain(value: Any) -> Any:
    """Dataclasses as dictionaries, those of an abstract family with their class; other containers element by element."""
    if is_dataclass(value) and not isinstance(value, type):
        settings = {field.name: plain(getattr(value, field.name)) for field in fields(value)}
        if isinstance(value, ABC):
            kind = type(value)
            return {"class_path": f"{kind.__module__}.{kind.__qualname__}", "init_args": settings}
        return settings
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def own_settings(kind: type, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those that this class takes, as plain data: the command line also hands on what another module takes."""
    known = inspect.signature(kind).parameters
    own = {name: value for name, value in settings.items() if name[0] == "_" or name in known}
    return {"_instantiator": "lightning.pytorch.cli.instantiate_module", **plain(own)}


def check_same_parts(module: nn.Module, checkpoint: Mapping[str, Any]) -> None:
    """Name the first weight that does not fit, where PyTorch would list all of them.

    Raises:
        ValueError: if the checkpoint is that of a module of another size or with other parts.
    """
    try:
        check_names_and_shapes(module.state_dict(), checkpoint["state_dict"], "the checkpoint's ")
    except ValueError as error:
        theirs = checkpoint.get("hyper_parameters", {}).get("_class_path", "").rsplit(".", 1)[-1]
        if theirs in ("", type(module).__name__):
            raise
        raise ValueError(
            f"the checkpoint is of a {theirs}, which a {type(module).__name__} does not go on from: to start from its "
            f"weights, name it in model.init_from ({error})"
        ) from None


def differences(saved: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Settings that both have, and that differ, as plain data: ``optimizer.lr 0.001 (now 0.0005)``."""
    told = []
    for name in saved.keys() & now.keys():
        before, after = plain(saved[name]), plain(now[name])
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            told += differences(before, after, f"{prefix}{name}.")
        elif before != after:
            told.append(f"{prefix}{name} {before} (now {after})")
    return sorted(told)
