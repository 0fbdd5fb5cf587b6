"""Files that were cut off, as far as their containers tell: libsndfile reads what is left and says nothing."""

from __future__ import annotations

import os
import struct
from typing import IO

_HEAD_BYTES = 4096
_TAIL_BYTES = 1 << 17  # two of Ogg's largest pages
_UNKNOWN_LENGTH = 0x7FFFF000  # what programs write into a pipe, who cannot go back to the header: about the largest number
_OGG_HEADER = 27


def is_length(told: int) -> bool:
    """Whether the length of a chunk, as its header tells it, is one; not where it was unknown when it was written."""
    return 0 < told < _UNKNOWN_LENGTH


def missing_bytes(file: IO[bytes], num_bytes: int) -> int:
    """How many bytes a wav or Ogg file lacks at its end; 0 for other formats, and where it cannot be told."""
    head = file.read(_HEAD_BYTES)
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return _of_wav(head, num_bytes)
    if head[:4] == b"OggS":
        file.seek(max(0, num_bytes - _TAIL_BYTES), os.SEEK_SET)
        return _of_last_page(file.read())
    return 0


def _of_wav(head: bytes, num_bytes: int) -> int:
    place = 12
    while place + 8 <= len(head):
        name, size = struct.unpack_from("<4sI", head, place)
        if name == b"data":
            return max(0, place + 8 + size - num_bytes) if is_length(size) else 0
        place += 8 + size + size % 2
    return 0


def _of_last_page(tail: bytes) -> int:
    page = tail[tail.rfind(b"OggS") :]
    if len(page) < _OGG_HEADER:
        return _OGG_HEADER - len(page)
    num_segments = page[_OGG_HEADER - 1]
    segments = page[_OGG_HEADER : _OGG_HEADER + num_segments]
    return max(0, _OGG_HEADER + num_segments + sum(segments) - len(page))
