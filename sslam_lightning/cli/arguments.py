"""What a class takes, of those classes whose arguments are this project's to know."""

from __future__ import annotations

import inspect
from dataclasses import is_dataclass
from typing import Any, get_type_hints

# By name, so that a mistake in a tool's options is told without waiting for Lightning.
_KNOWN = ("sslam_lightning.", "lightning.pytorch.trainer.")


def is_known(kind: Any) -> bool:
    """What other people's classes take is theirs to know, and a function may stand for a class."""
    return isinstance(kind, type) and kind.__module__.startswith(_KNOWN)


def arguments_of(kind: type) -> dict[str, tuple[Any, Any]]:
    """Type and default of every argument of a class, of those too that it hands on to the class above it."""
    if is_dataclass(kind):
        hints, parameters = get_type_hints(kind), inspect.signature(kind).parameters
        return {name: (hints[name], parameter.default) for name, parameter in parameters.items()}
    arguments: dict[str, tuple[Any, Any]] = {}
    for above in reversed(kind.__mro__):
        if "__init__" in vars(above) and is_known(above):
            hints = get_type_hints(above.__init__)  # type: ignore[misc]
            parameters = inspect.signature(above.__init__).parameters  # type: ignore[misc]
            arguments |= {name: (hints.get(name, Any), parameter.default) for name, parameter in parameters.items()}
    arguments.pop("self", None)
    return arguments
