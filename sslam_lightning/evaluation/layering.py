"""Settings laid over others, as the command line layers files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def laid_over(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Tables are merged, anything else is replaced; neither argument is changed."""
    merged = dict(under)
    for name, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
        merged[name] = laid_over(merged[name], value) if both else value
    return merged
