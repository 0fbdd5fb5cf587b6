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

CHUNK = 4096  # strings, or ends of them, that are Python objects at the same time
_UNKNOWN = -1
Item = TypeVar("Item")


def in_chunks(items: Iterable[Item]) -> Iterator[list[Item]]:
    """A few thousand at a time."""
    remaining = iter(items)
    while chunk := list(islice(remaining, CHUNK)):
        yield chunk


class StringPacker:
    """Gathers strings for a `PackedStrings`."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._ends = [np.zeros(1, dtype=np.int64)]

    def extend(self, strings: Sequence[str]) -> None:
        """Add some; a few thousand at once are the fastest."""
        text = "".join(strings)
        encoded = text.encode("utf-8", "surrogateescape")  # file names may be any bytes
        ascii_only = len(encoded) == len(text)
        sizes = map(len, strings if ascii_only else (s.encode("utf-8", "surrogateescape") for s in strings))
        self._ends.append(len(self._data) + np.cumsum(np.fromiter(sizes, dtype=np.int64, count=len(strings))))
        self._data += encoded

    def packed(self) -> PackedStrings:
        """All of them; none can be added any more."""
        return PackedStrings.of_buffers(np.frombuffer(self._data, dtype=np.uint8), np.concatenate(self._ends))


class PackedStrings(Sequence[str]):
    """A read-only list of strings in one buffer of UTF-8 bytes."""

    _bytes: np.ndarray
    _ends: np.ndarray

    def __init__(self, strings: Iterable[str]) -> None:
        packer = StringPacker()
        for chunk in in_chunks(strings):
            packer.extend(chunk)
        packed = packer.packed()
        self._bytes, self._ends = packed._bytes, packed._ends

    @classmethod
    def of_buffers(cls, data: Int[np.ndarray, "bytes"], ends: Int[np.ndarray, "strings_and_one"]) -> PackedStrings:
        """Strings that lie in memory (or in a mapped file) already: string i is ``data[ends[i]:ends[i + 1]]``."""
        packed = cls.__new__(cls)
        packed._bytes, packed._ends = data, ends
        return packed

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), CHUNK):
            ends = self._ends[first : first + CHUNK + 1]
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
    """A read-only list of rows of class indices.

    Args:
        start: where each row begins in ``flat``, and where the last one ends.
        flat: the classes of all rows.
    """

    def __init__(self, start: Int[np.ndarray, "rows_and_one"], flat: Int[np.ndarray, "classes"]) -> None:
        self.start, self.flat = start, flat

    @classmethod
    def of_rows(cls, rows: Iterable[Sequence[int]]) -> PackedClasses:
        """As they are."""
        sizes, flat = array("q", [0]), array("i")
        for row in rows:
            sizes.append(len(row))
            flat.extend(row)
        return cls(np.cumsum(np.frombuffer(sizes, dtype=np.int64)), np.frombuffer(flat, dtype=np.int32))

    @classmethod
    def of_pairs(cls, row: Int[np.ndarray, "pairs"], classes: Int[np.ndarray, "pairs"], num_rows: int) -> PackedClasses:
        """Pairs of a row and one of its classes, in any order: each row's are sorted, none comes twice."""
        num_classes = int(classes.max(initial=0)) + 1
        pairs = np.sort(row.astype(np.int64) * num_classes + classes)
        pairs = pairs[np.diff(pairs, prepend=-1) > 0]
        count = np.bincount(pairs // num_classes, minlength=num_rows)
        return cls(np.concatenate([[0], np.cumsum(count)]), (pairs % num_classes).astype(np.int32))

    @classmethod
    def of_texts(
        cls, texts: Iterable[str], separator: str, class_of: dict[str, int], explain: Callable[[int, str], Exception]
    ) -> PackedClasses:
        """Rows like ``label;label``; white space around labels and empty ones do not count.

        Args:
            texts: a row each.
            separator: of labels.
            class_of: the class of every label.
            explain: makes the error of a row with a label that has no class.
        """
        num_rows = 0
        parts: list[PackedClasses] = []
        for chunk in in_chunks(texts):
            words = separator.join(chunk).split(separator)
            counts = np.fromiter(map(str.count, chunk, repeat(separator)), dtype=np.int64, count=len(chunk)) + 1
            row = np.repeat(np.arange(len(chunk)), counts)
            classes = np.fromiter(map(class_of.get, words, repeat(_UNKNOWN)), dtype=np.int32, count=len(words))
            for place in np.flatnonzero(classes == _UNKNOWN).tolist():
                if word := words[place].strip():
                    if word not in class_of:
                        raise explain(num_rows + int(row[place]), word)
                    classes[place] = class_of[word]
            known = classes != _UNKNOWN
            parts.append(cls.of_pairs(row[known], classes[known], len(chunk)))
            num_rows += len(chunk)
        return cls.joined(parts)

    @classmethod
    def joined(cls, parts: Sequence[PackedClasses]) -> PackedClasses:
        """The rows of several, one behind the other."""
        sizes = [np.diff(part.start) for part in parts]
        start = np.cumsum(np.concatenate([np.zeros(1, dtype=np.int64), *sizes]))
        return cls(start, np.concatenate([np.zeros(0, dtype=np.int32), *(part.flat for part in parts)]))

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
