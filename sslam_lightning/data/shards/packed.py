"""Millions of strings, and of rows of class indices, in a few flat arrays.

As Python objects they would take five times the memory, and worker processes could not share them: counting references
copies every page that it touches.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, pairwise, repeat
from typing import TypeVar, overload

import numpy as np
from jaxtyping import Int

_CHUNK = 4096  # strings, or ends of them, that are Python objects at the same time
_UNKNOWN = -1
Item = TypeVar("Item")


def in_chunks(items: Iterable[Item]) -> Iterator[list[Item]]:
    """A few thousand at a time."""
    remaining = iter(items)
    while chunk := list(islice(remaining, _CHUNK)):
        yield chunk


class PackedStrings(Sequence[str]):
    """A read-only list of strings in one buffer of UTF-8 bytes."""

    def __init__(self, strings: Iterable[str]) -> None:
        data, sizes = bytearray(), [np.zeros(1, dtype=np.int64)]
        for chunk in in_chunks(strings):
            text = "".join(chunk)
            encoded = _encoded(text)
            lengths = map(len, chunk if len(encoded) == len(text) else map(_encoded, chunk))
            sizes.append(np.fromiter(lengths, dtype=np.int64, count=len(chunk)))
            data += encoded
        self._bytes, self._ends = np.frombuffer(data, dtype=np.uint8), np.cumsum(np.concatenate(sizes))

    @classmethod
    def of_buffers(cls, data: Int[np.ndarray, "bytes"], ends: Int[np.ndarray, "strings_and_one"]) -> PackedStrings:
        """Strings that lie in memory (or in a mapped file) already: string i is ``data[ends[i]:ends[i + 1]]``."""
        packed = cls.__new__(cls)
        packed._bytes, packed._ends = data, ends
        return packed

    @classmethod
    def of_columns(cls, rows: Iterable[Sequence[str]]) -> list[PackedStrings]:
        """Every column of a table."""
        parts = [[cls(cells) for cells in zip(*chunk, strict=True)] for chunk in in_chunks(rows)]
        return [
            cls.of_buffers(
                np.concatenate([part._bytes for part in column]), _starts(np.diff(part._ends) for part in column)
            )
            for column in zip(*parts, strict=True)
        ]

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), _CHUNK):
            ends = self._ends[first : first + _CHUNK + 1]
            part = self._bytes[ends[0] : ends[-1]].tobytes()
            places = pairwise((ends - ends[0]).tolist())
            if part.isascii():  # then bytes are characters
                text = part.decode("ascii")
                yield from (text[start:end] for start, end in places)
            else:
                yield from (part[start:end].decode("utf-8", "surrogateescape") for start, end in places)

    def fingerprint(self) -> str:
        """A digest of the strings and their order."""
        digest = hashlib.blake2b((self._ends - self._ends[0]).tobytes(), digest_size=8)
        digest.update(self._bytes[self._ends[0] : self._ends[-1]].tobytes())
        return digest.hexdigest()

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = range(len(self))[index]  # IndexError and negative numbers as in a list
        return self._bytes[self._ends[place] : self._ends[place + 1]].tobytes().decode("utf-8", "surrogateescape")


class PackedClasses(Sequence[list[int]]):
    """A read-only list of rows of class indices: row i is ``flat[start[i]:start[i + 1]]``."""

    def __init__(self, start: Int[np.ndarray, "rows_and_one"], flat: Int[np.ndarray, "classes"]) -> None:
        self.start, self.flat = start, flat

    @classmethod
    def of_rows(cls, rows: Iterable[Sequence[int]]) -> PackedClasses:
        """As they are."""
        sizes, flat = array("q"), array("i")
        for row in rows:
            sizes.append(len(row))
            flat.extend(row)
        return cls(_starts([np.frombuffer(sizes, dtype=np.int64)]), np.frombuffer(flat, dtype=np.int32))

    @classmethod
    def of_pairs(cls, row: Int[np.ndarray, "pairs"], classes: Int[np.ndarray, "pairs"], num_rows: int) -> PackedClasses:
        """Pairs of a row and one of its classes, in any order: each row's are sorted, none comes twice."""
        num_classes = int(classes.max(initial=0)) + 1
        pairs = np.sort(row.astype(np.int64) * num_classes + classes)
        pairs = pairs[np.diff(pairs, prepend=-1) > 0]
        count = np.bincount(pairs // num_classes, minlength=num_rows)
        return cls(_starts([count]), (pairs % num_classes).astype(np.int32))

    @classmethod
    def of_texts(
        cls, texts: Iterable[str], separator: str, class_of: dict[str, int], explain: Callable[[int, str], Exception]
    ) -> PackedClasses:
        """Rows like ``label;label``; white space around labels and empty ones do not count.

        ``class_of`` holds the class of every label; ``explain`` makes the error of a row with another one.
        """
        num_rows = 0
        all_rows, all_classes = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int32)]
        for chunk in in_chunks(texts):
            words = separator.join(chunk).split(separator)
            counts = np.fromiter(map(str.count, chunk, repeat(separator)), dtype=np.int64, count=len(chunk)) + 1
            row = np.repeat(np.arange(num_rows, num_rows + len(chunk)), counts)
            classes = np.fromiter(map(class_of.get, words, repeat(_UNKNOWN)), dtype=np.int32, count=len(words))
            for place in np.flatnonzero(classes == _UNKNOWN).tolist():
                if word := words[place].strip():
                    if word not in class_of:
                        raise explain(int(row[place]), word)
                    classes[place] = class_of[word]
            known = classes != _UNKNOWN
            all_rows.append(row[known])
            all_classes.append(classes[known])
            num_rows += len(chunk)
        return cls.of_pairs(np.concatenate(all_rows), np.concatenate(all_classes), num_rows)

    def __len__(self) -> int:
        return len(self.start) - 1

    @overload
    def __getitem__(self, row: int) -> list[int]: ...
    @overload
    def __getitem__(self, row: slice) -> list[list[int]]: ...
    def __getitem__(self, row: int | slice) -> list[int] | list[list[int]]:
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        place = range(len(self))[row]
        indices: list[int] = self.flat[self.start[place] : self.start[place + 1]].tolist()
        return indices


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")  # file names may be any bytes


def _starts(sizes: Iterable[Int[np.ndarray, "_"]]) -> Int[np.ndarray, "rows_and_one"]:
    """Where rows of these sizes begin, and where the last one ends."""
    return np.cumsum(np.concatenate([np.zeros(1, dtype=np.int64), *sizes]))
