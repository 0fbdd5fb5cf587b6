"""Settings as plain data, so that a checkpoint of a module built in Python opens without pickle, as the CLI's do."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any


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
