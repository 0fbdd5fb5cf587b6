"""Reading what a W&B run has written to its own folder: what a killed process has really kept.

A ``.wandb`` file is a log of LevelDB's format (7 bytes of file header, blocks of 32 KiB, records in pieces with checksum,
length and type) of protocol buffers of ``wandb_internal.proto``.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_FILE_HEADER_BYTES, _BLOCK_BYTES = 7, 32 * 1024
_PIECE = struct.Struct("<IHB")  # checksum, length, type
_WHOLE, _FIRST, _LAST = 1, 2, 4
STEP = "trainer/global_step"


def run_files(folder: Path, run_id: str) -> list[Path]:
    """The logs of a run below ``folder/wandb``, one a process, oldest first.

    Folders are named by the second they were made in; W&B sets a number behind the name of another of the same second.
    """
    found = folder.glob(f"wandb/*run-*-{run_id}*/run-{run_id}.wandb")
    return sorted(found, key=lambda path: path.parent.name.removeprefix("offline-"))


def read_records(path: Path) -> Iterator[Any]:
    """The records of one log, up to the place where a killed process left it."""
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

    for content in _pieces_joined(path.read_bytes()):
        record = Record()
        record.ParseFromString(content)
        yield record


def read_history(path: Path) -> Iterator[dict[str, Any]]:
    """What was logged, one dictionary for every call, in order; of a picture what is known of its file."""
    for record in read_records(path):
        if record.HasField("history"):
            row: dict[str, Any] = {}
            for item in record.history.item:
                name, *inner = item.nested_key or [item.key]
                value = json.loads(item.value_json)
                if inner:
                    row.setdefault(name, {})["/".join(inner)] = value
                else:
                    row[name] = value
            yield row


def logged_values(folder: Path, run_id: str) -> set[tuple[int, str]]:
    """Step and name of every value that the run's processes have kept."""
    rows = (row for path in run_files(folder, run_id) for row in read_history(path))
    return {(int(row[STEP]), name) for row in rows if STEP in row for name in row if name != STEP}


def _pieces_joined(content: bytes) -> Iterator[bytes]:
    place, parts = _FILE_HEADER_BYTES, b""
    while place + _PIECE.size <= len(content):
        left = _BLOCK_BYTES - place % _BLOCK_BYTES
        if left < _PIECE.size:  # too little for another piece: padding
            place += left
            continue
        _, length, kind = _PIECE.unpack_from(content, place)
        place += _PIECE.size
        if place + length > len(content) or kind not in range(_WHOLE, _LAST + 1):
            return  # broken off
        piece = content[place : place + length]
        place += length
        parts = piece if kind in (_WHOLE, _FIRST) else parts + piece
        if kind in (_WHOLE, _LAST):
            yield parts
