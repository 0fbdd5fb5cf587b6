"""Settings that the parser lets through and their class does not take: null, and a value where settings are expected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from pkgutil import resolve_name
from types import NoneType
from typing import Any, get_args

import lightning.pytorch as pl

from sslam_lightning.cli.arguments import arguments_of, is_known


def refuse_unfit_settings(config: Mapping[str, Any]) -> None:
    """Look at the settings of the trainer, and of all classes of this project, for what the parser has let through.

    Args:
        config: ``trainer``, and the classes ``model`` and ``data``.

    Raises:
        ValueError: naming the first such setting.
    """
    _look_at_arguments(pl.Trainer, config["trainer"], "trainer")
    for part in ("model", "data"):
        _look_at(config[part], None, part)


def _look_at_arguments(kind: Any, settings: Mapping[str, Any], key: str) -> None:
    arguments = arguments_of(kind) if is_known(kind) else {}
    for name, value in settings.items():
        hint, default = arguments.get(name, (Any, None))
        if value is None and default is not None and not _takes_null(hint):
            instead = f"; it is {default!r} by default" if isinstance(default, (bool, int, float, str)) else ""
            raise ValueError(f"{key}.{name} cannot be null{instead}")
        for inner in value if isinstance(value, Sequence) and not isinstance(value, str) else (value,):
            _look_at(inner, hint, f"{key}.{name}")


def _look_at(value: Any, hint: Any, key: str) -> None:
    kinds = [part for part in (hint, *get_args(hint)) if part is not NoneType]
    settings = next((part for part in kinds if isinstance(part, type) and is_dataclass(part)), None)
    if isinstance(value, Mapping) and "class_path" in value:
        _look_at_arguments(resolve_name(value["class_path"]), value.get("init_args") or {}, key)
    elif isinstance(value, Mapping) and settings:
        _look_at_arguments(settings, value, key)
    elif isinstance(value, (bool, int, float, str)) and settings and kinds[-1] is settings:
        raise ValueError(f"{key} has settings of its own ({key}.NAME), got {value}")


def _takes_null(hint: Any) -> bool:
    return hint in (Any, None, NoneType) or any(_takes_null(part) for part in get_args(hint) if part is not Ellipsis)
