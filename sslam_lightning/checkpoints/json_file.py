"""Reading the JSON files that lie beside weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_MAX_BYTES = 8 * 2**20  # a configuration with the names of 527 classes takes 30 thousand


def read_json(path: Path) -> dict[str, Any]:
    """The one table that a JSON file holds.

    Raises:
        ValueError: one line, if it is too large or deep, is no JSON table, or names a key twice.
    """
    if path.stat().st_size > _MAX_BYTES:
        raise ValueError(f"{path} takes {path.stat().st_size} bytes, a configuration takes at most {_MAX_BYTES}")
    return parse_json(path.read_bytes(), path)


def parse_json(text: bytes, path: Path) -> dict[str, Any]:
    """The one table that a text of JSON is.

    Raises:
        ValueError: one line, if it is too deep, no JSON table, or names a key twice.
    """
    try:
        content = json.loads(text, object_pairs_hook=_table, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError(f"{path} is not the JSON of a model: it nests too deep") from None
    except ValueError as error:
        raise ValueError(f"{path} is not the JSON of a model: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not the JSON of a model: it holds a {type(content).__name__}, not a table")
    return content


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("it names a key twice")
    return table


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")
