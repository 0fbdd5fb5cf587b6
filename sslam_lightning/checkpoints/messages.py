"""One-line messages about files that other people wrote."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


def printable(text: str, length: int = 300) -> str:
    """The beginning of a text from a file, fit for a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:length])


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
