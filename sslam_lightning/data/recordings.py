"""A list of recordings and their labels that stays small at two million rows.

Names and labels lie in a few flat arrays instead of millions of Python objects: two million rows of AudioSet take
about 100 MB, and worker processes share them (reference counts of objects would copy every page they touch).
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sslam_lightning.data.audio import AUDIO_EXTENSIONS, UnreadableAudio, read_audio
from sslam_lightning.data.storage import join, open_binary


class PackedStrings(Sequence[str]):
    """A read-only list of strings in one buffer of UTF-8 bytes."""

    def __init__(self, strings: Iterable[str]) -> None:
        data, ends = bytearray(), array("q", [0])
        for string in strings:  # one after the other: millions of them never exist together
            data += string.encode("utf-8", "surrogateescape")  # file names may be any bytes
            ends.append(len(data))
        self._bytes = np.frombuffer(bytes(data), dtype=np.uint8)
        self._ends = np.frombuffer(ends.tobytes(), dtype=np.int64)

    @classmethod
    def of_buffers(cls, data: Int[np.ndarray, "bytes"], ends: Int[np.ndarray, "strings_and_one"]) -> PackedStrings:
        """Strings that lie in memory (or in a mapped file) already: string i is ``data[ends[i]:ends[i + 1]]``."""
        packed = cls(())
        packed._bytes, packed._ends = data, ends
        return packed

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __iter__(self) -> Iterator[str]:
        data, start = self._bytes.data, 0
        for first in range(1, len(self._ends), 4096):  # not all ends as Python's numbers at once
            for end in self._ends[first : first + 4096].tolist():
                yield str(data[start:end], "utf-8", "surrogateescape")
                start = end

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


@dataclass(frozen=True, eq=False)
class Recordings:
    """What a data set is made of, before any file is opened.

    ``label_index[label_start[i]:label_start[i + 1]]`` are the class indices of recording i.
    """

    root: str  # folder (or URL of one) that the names are relative to
    names: PackedStrings  # as they stand in the manifest; also what messages call the recording
    label_start: Int[np.ndarray, "recordings_and_one"]
    label_index: Int[np.ndarray, "labels"]
    class_names: tuple[str, ...]  # empty: no labels
    weights: Float[np.ndarray, "recordings"] | None = None  # how often to draw each, where a file says so

    def __len__(self) -> int:
        return len(self.names)

    def path(self, index: int) -> str:
        """Where the file of a recording lies."""
        return join(self.root, self.names[index])

    def seconds(self, index: int, max_seconds: float | None) -> float | None:
        """How much of a recording is wanted, if no more than ``max_seconds`` is; None: all of it."""
        return max_seconds

    def read(self, index: int, max_seconds: float | None = None) -> tuple[Float[Tensor, "samples"], int]:
        """The mono waveform of a recording and its sample rate in Hz; see `read_audio`."""
        return read_audio(self.path(index), max_seconds)

    def file(self, index: int) -> tuple[bytes, str]:
        """The file of a recording as it is, and the extension that tells its format.

        Raises:
            UnreadableAudio: it cannot be read, or its name does not tell its format.
        """
        path = self.path(index)
        extension = os.path.splitext(path)[1].lower()
        if extension not in AUDIO_EXTENSIONS:
            raise UnreadableAudio(f"{path}: {extension!r} is no extension of audio")
        try:
            with open_binary(path) as file:
                return file.read(), extension
        except OSError as error:
            raise UnreadableAudio(f"{path}: cannot be read ({error})") from error

    def classes(self, index: int) -> list[int]:
        """Class indices of a recording, as they stand in the manifest."""
        return self.label_index[self.label_start[index] : self.label_start[index + 1]].tolist()

    def labels(self, index: int) -> Float[Tensor, "classes"]:
        """Multi-hot labels of a recording; zero classes wide where the data has none."""
        multi_hot = torch.zeros(len(self.class_names))
        multi_hot[self.classes(index)] = 1.0
        return multi_hot


def make_recordings(
    root: str, names: Iterable[str], classes: Sequence[Sequence[int]], class_names: Sequence[str]
) -> Recordings:
    """Pack rows into `Recordings`. ``classes`` holds the class indices of every row.

    Raises:
        ValueError: a different number of names and rows of classes, or a class index without a name.
    """
    packed = PackedStrings(names)
    if len(packed) != len(classes):
        raise ValueError(f"every recording needs its own list of classes, got {len(packed)} and {len(classes)}")
    label_start = np.cumsum([0, *map(len, classes)], dtype=np.int64)
    label_index = np.fromiter((c for row in classes for c in row), dtype=np.int32, count=int(label_start[-1]))
    if len(label_index) and not 0 <= label_index.min() <= label_index.max() < len(class_names):
        raise ValueError(
            f"class indices must lie in 0..{len(class_names) - 1}, got {label_index.min()}..{label_index.max()}"
        )
    return Recordings(root, packed, label_start, label_index, tuple(class_names))


def class_balanced_weights(recordings: Recordings) -> Float[Tensor, "recordings"]:
    """How much more often a recording of rare classes should be drawn: the sum over its classes of 1000 / (n + 0.01).

    n is the number of recordings of the class, counted over these recordings alone, so that skipped files count for
    nothing. A recording without labels weighs 0. Source: SSAST (Gong et al., AAAI 2022) and EAT. Weights that came with the
    recordings (see `sslam_lightning.data.statistics`) are returned as they are.

    Raises:
        ValueError: the recordings have no labels.
    """
    if recordings.weights is not None:
        return torch.from_numpy(recordings.weights)
    if len(recordings.label_index) == 0:
        raise ValueError(f"class-balanced weights need labels, and the {len(recordings)} recordings have none")
    count = np.bincount(recordings.label_index, minlength=len(recordings.class_names))
    of_class = 1000.0 / (count + 0.01)
    total = np.concatenate([[0.0], np.cumsum(of_class[recordings.label_index])])
    return torch.from_numpy(total[recordings.label_start[1:]] - total[recordings.label_start[:-1]])
