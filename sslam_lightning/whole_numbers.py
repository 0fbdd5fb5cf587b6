"""Whole numbers stay whole: counts are never fractions, and a sample rate of 44100.0 Hz is one of 44100 Hz."""

from __future__ import annotations

from functools import cache
from numbers import Integral
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


def check_whole_numbers(settings: Any, where: str) -> None:
    """Refuse a fraction, 512.0 included, in a field of a dataclass whose type is a whole number.

    Args:
        settings: a dataclass; numbers inside its tuples count too.
        where: what messages call it, such as ``features``.

    Raises:
        ValueError: naming the field and its value.
    """
    for name, hint in _hints(type(settings)).items():  # type: ignore[arg-type]
        if not _fits(value := getattr(settings, name), hint):
            several = "whole numbers" if isinstance(value, (tuple, list)) else "a whole number"
            raise ValueError(f"{where}: {name} must be {several}, got {value!r}")


def whole_rate(sample_rate_hz: Any, name: str = "sample_rate_hz") -> int:
    """A sample rate in Hz as an int, ValueError if it is a fraction: other libraries hand out rates as floats."""
    if not isinstance(sample_rate_hz, (bool, str, bytes)):
        try:
            rate_hz = int(sample_rate_hz)
            if rate_hz == sample_rate_hz:
                return rate_hz
        except (TypeError, ValueError, OverflowError):
            pass  # no number, NaN or infinite
    raise ValueError(f"{name} must be a whole number of Hz, got {sample_rate_hz!r}")


def check_at_least(least: int, **settings: int) -> None:
    """Raise ValueError for the first setting that is less, or no whole number."""
    for name, value in settings.items():
        if not _fits(value, int):
            raise ValueError(f"{name} must be a whole number, got {value!r}")
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")


@cache
def _hints(kind: type) -> dict[str, Any]:
    fields = kind.__dataclass_fields__  # type: ignore[attr-defined]
    return {name: hint for name, hint in get_type_hints(kind).items() if name in fields and _has_whole(hint)}


def _has_whole(hint: Any) -> bool:
    if get_origin(hint) is Literal:
        return all(type(option) is int for option in get_args(hint))
    return hint is int or any(_has_whole(inner) for inner in get_args(hint) if inner is not Ellipsis)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value holds no fraction where the type has whole numbers; all else is for others to judge."""
    if get_origin(hint) in (Union, UnionType):
        return any(_fits(value, option) for option in get_args(hint))
    if hint is int or (get_origin(hint) is Literal and _has_whole(hint)):
        return isinstance(value, Integral) and not isinstance(value, bool)
    if hint is NoneType:
        return value is None
    if isinstance(value, (tuple, list)) and (inner := [one for one in get_args(hint) if one is not Ellipsis]):
        hints = inner if len(inner) == len(value) else inner[:1] * len(value)
        return all(map(_fits, value, hints))
    return True
