"""Messages of jsonargparse on one line."""

from __future__ import annotations

from textwrap import shorten


def one_line(message: str) -> str:
    """A parser's message on one line; of a union of types, what its members but ``None`` say about the value."""
    where, union, errors = message.rpartition("Errors:\n")
    if union:
        errors, _, value = errors.partition("Given value type:")
        errors = errors.partition("Subclass types expect")[0]
        causes = [" ".join(cause.split()) for cause in errors.split("- ") if cause.strip() and "NoneType'>" not in cause]
        key = next((line.strip() for line in reversed(where.splitlines()) if "Parser key" in line), "")
        value = shorten(value.partition("Given value:")[2], 100)
        message = f"{key} {' or '.join(dict.fromkeys(causes))}" + (f". Got value: {value}" if key else "")
    lines = message.partition("Subclass types expect")[0].splitlines()
    return " ".join(line.strip().removeprefix("- ") for line in lines if line.strip(" -"))
