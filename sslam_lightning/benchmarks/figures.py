"""The figures of a benchmark: as lines, and in a file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from sslam_lightning.runtime.atomic_write import new_file, refuse_existing


def check_target(out: str | None) -> None:
    """Before anything is measured.

    Raises:
        FileExistsError: if there is something already.
    """
    if out is not None:
        refuse_existing(out)


def report(result: dict[str, Any], lines: Iterable[str], out: str | None) -> dict[str, Any]:
    """Print lines, write the result as JSON where a file is named, and return it."""
    print("\n".join(lines))
    if out is not None:
        with new_file(out) as file:
            file.write(json.dumps(result, indent=1).encode() + b"\n")
    return result


def single_values(result: dict[str, Any], width: int) -> list[str]:
    """A line for every figure that is no table."""
    figures = {name: value for name, value in result.items() if not isinstance(value, (dict, list))}
    formats = {name: ".4g" if isinstance(value, float) else "" for name, value in figures.items()}
    return [f"{name:<{width}}{value:{formats[name]}}" for name, value in figures.items()]
