"""Reading the JSON files that lie beside weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

# A configuration with the names of 527 classes takes 30 thousand, the table of contents of a large model 100 thousand;
# what a text of JSON becomes in memory may be thirty times as large as it is.
MAX_BYTES = 2 * 2**20


def read_json(path: Path) -> dict[str, Any]:
    """The one table that a JSON file holds."""
    if (size := path.stat().st_size) > MAX_BYTES:
        raise ValueError(f"{path} takes {size} bytes, the JSON of a model takes at most {MAX_BYTES}")
    try:
        return parse_json(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not the JSON of a model: {error}") from None


def parse_json(text: bytes) -> dict[str, Any]:
    """The one table that a text of JSON is; raises as :func:`read_json`."""
    try:
        content = json.loads(text, object_pairs_hook=_table, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it nests too deep") from None
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}, not a table")
    return content


def inside(folder: Path, name: str) -> Path:
    """A file of a folder. Links may lead into the folder itself or to where the Hub's cache keeps its files."""
    path = folder / name
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {folder}: it holds no {name}")
    home, target = folder.resolve(), path.resolve()
    if not target.is_relative_to(home) and not target.is_relative_to(home.parent.parent / "blobs"):
        raise ValueError(f"{path} is a link that leads out of its folder")
    return path


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("it names a key twice")
    return table


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")
