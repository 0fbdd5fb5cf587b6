"""Truncated files, as far as their formats tell: libsndfile reads what is left without an error."""

from __future__ import annotations

import os
import struct
from typing import IO

_TAIL_BYTES = 1 << 17  # two of Ogg's largest pages
_OGG_HEADER_BYTES = 27
_MAX_CHUNKS = 100  # of a wav or aiff before its samples
_UNKNOWN_LENGTH = 0x7FFFF000  # written (or more) by programs that write to a pipe and cannot go back to the header
_CHUNKS = {b"RIFFWAVE": ("<4sI", b"data"), b"FORMAIFF": (">4sI", b"SSND"), b"FORMAIFC": (">4sI", b"SSND")}


def missing_bytes(file: IO[bytes]) -> int:
    """How many bytes a wav, aiff or Ogg file lacks at its end; 0 for other formats, and where it cannot be told."""
    num_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(12)
    if head[:4] == b"OggS":
        file.seek(max(0, num_bytes - _TAIL_BYTES))
        return _missing_of_last_page(file.read())
    layout, samples = _CHUNKS.get(head[:4] + head[8:], ("", b""))
    end = len(head)
    for _ in range(_MAX_CHUNKS if layout else 0):
        header = file.read(8)
        if len(header) < 8:
            break
        name, size = struct.unpack(layout, header)
        end += 8 + size
        if name == samples:
            return max(0, end - num_bytes) if 0 < size < _UNKNOWN_LENGTH else 0
        end += size % 2
        file.seek(end)
    return 0


def _missing_of_last_page(tail: bytes) -> int:
    page = tail[tail.rfind(b"OggS") :]
    if len(page) < _OGG_HEADER_BYTES:
        return _OGG_HEADER_BYTES - len(page)
    num_segments = page[_OGG_HEADER_BYTES - 1]
    segments = page[_OGG_HEADER_BYTES : _OGG_HEADER_BYTES + num_segments]
    return max(0, _OGG_HEADER_BYTES + num_segments + sum(segments) - len(page))
