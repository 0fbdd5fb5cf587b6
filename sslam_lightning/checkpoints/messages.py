"""One-line messages about files that other people wrote."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import NoneType
from typing import Any


def printable(text: str, length: int = 300) -> str:
    """The beginning of a text from a file, fit for a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:length])


def shown(value: Any) -> str:
    """A value: itself where it is short and plain, else its type."""
    text = repr(value) if isinstance(value, (bool, int, float, str, NoneType)) else type(value).__name__
    return printable(text if len(text) <= 80 else f"{text[:77]}...")


def unknown_keys(content: Iterable[Any], known: Iterable[str]) -> tuple[str, ...]:
    """The keys of a file that nobody knows."""
    return tuple(printable(str(key)) for key in content if key not in known)


def first_line(error: Exception) -> str:
    """The first line of another library's message that says something."""
    return next((printable(line.strip()) for line in str(error).splitlines() if line.strip()), type(error).__name__)


@contextmanager
def naming(source: str, kind: str) -> Iterator[None]:
    """Turn what goes wrong while a model is read into a ValueError of one line that names its file."""
    try:
        yield
    except KeyError as error:
        raise ValueError(f"{source} is not {kind}: {error} is missing") from None
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    except (RuntimeError, TypeError, AttributeError, IndexError, ArithmeticError, AssertionError) as error:
        raise ValueError(f"{source} is not {kind}: {first_line(error)[:200]}") from None
