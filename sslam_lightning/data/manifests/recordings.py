"""A list of recordings and their labels that stays small at two million rows of AudioSet: about 130 MB."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sslam_lightning.data.audio.read import AUDIO_EXTENSIONS, UnreadableAudio, read_audio
from sslam_lightning.data.filesystem import is_url, join, open_binary
from sslam_lightning.data.manifests.class_map import table_of_words
from sslam_lightning.data.shards.packed import PackedClasses, PackedStrings

Kind = TypeVar("Kind", bound="Recordings")


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

    def paths(self) -> Iterator[str]:
        """Where all files lie, the same wherever the process was started."""
        root = self.root if is_url(self.root) else os.path.abspath(self.root)
        return (join(root, name) for name in self.names)

    def seconds(self, index: int, max_seconds: float | None) -> float | None:
        """How much of a recording is wanted, if no more than ``max_seconds`` is; None: all of it."""
        return max_seconds

    def read(self, index: int, max_seconds: float | None = None) -> tuple[Float[Tensor, "samples"], int]:
        """The mono waveform of a recording and its sample rate in Hz; see `read_audio`."""
        return read_audio(self.path(index), max_seconds)

    def file(self, index: int) -> tuple[bytes, str]:
        """The file of a recording as it is, and its extension; UnreadableAudio where its name tells no format."""
        path = self.path(index)
        extension = audio_extension(path, path)
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
        multi_hot = torch.zeros(len(self.class_names), dtype=torch.float32, device="cpu")
        multi_hot[self.classes(index)] = 1.0
        return multi_hot

    def fingerprint(self) -> list[str]:
        """What tells these recordings and their labels from others."""
        root = self.root if is_url(self.root) else os.path.abspath(self.root)
        labels = hashlib.blake2b(self.label_start.tobytes() + self.label_index.tobytes(), digest_size=8).hexdigest()
        return [root, self.names.fingerprint(), PackedStrings(self.class_names).fingerprint(), labels]

    @classmethod
    def of_rows(
        cls: type[Kind],
        root: str,
        names: Iterable[str],
        classes: Sequence[Sequence[int]],
        class_names: Sequence[str],
        **fields: Any,
    ) -> Kind:
        """Pack rows. ``classes`` holds the class indices of every row; ``fields`` are those of a subclass."""
        packed = names if isinstance(names, PackedStrings) else PackedStrings(names)
        rows = classes if isinstance(classes, PackedClasses) else PackedClasses.of_rows(classes)
        if len(packed) != len(rows):
            raise ValueError(f"every recording needs its own list of classes, got {len(packed)} and {len(rows)}")
        used = rows.flat
        if len(used) and not 0 <= used.min() <= used.max() < len(class_names):
            raise ValueError(f"class indices must lie in 0..{len(class_names) - 1}, got {used.min()}..{used.max()}")
        return cls(root, packed, rows.start, rows.flat, tuple(class_names), **fields)

    @classmethod
    def of_words(cls: type[Kind], root: str, names: Iterable[str], words: Sequence[Iterable[str]], **fields: Any) -> Kind:
        """Pack rows whose classes are the words that come in any of them, in alphabetical order."""
        table = table_of_words(word for row in words for word in row)
        classes = [sorted({table.class_of[word] for word in row if word}) for row in words]
        return cls.of_rows(root, names, classes, table.names, **fields)


make_recordings = Recordings.of_rows


def audio_extension(name: str, recording: str) -> str:
    """The extension by which a file tells its format; UnreadableAudio, about ``recording``, if it tells none."""
    extension = os.path.splitext(name)[1].lower()
    if extension not in AUDIO_EXTENSIONS:
        raise UnreadableAudio(f"{recording}: {extension!r} is no extension of audio")
    return extension


def class_balanced_weights(recordings: Recordings) -> Float[Tensor, "recordings"]:
    """How much more often a recording of rare classes should be drawn: the sum over its classes of 1000 / (n + 0.01).

    n is the number of these recordings that are of the class; a recording without labels weighs 0. Source: SSAST (Gong et
    al., AAAI 2022) and EAT. Weights that came with the recordings are returned as they are. ValueError without labels.
    """
    if recordings.weights is not None:
        return torch.from_numpy(recordings.weights)
    if len(recordings.label_index) == 0:
        raise ValueError(f"class-balanced weights need labels, and the {len(recordings)} recordings have none")
    count = np.bincount(recordings.label_index, minlength=len(recordings.class_names))
    of_class = 1000.0 / (count + 0.01)
    total = np.concatenate([[0.0], np.cumsum(of_class[recordings.label_index])])
    return torch.from_numpy(total[recordings.label_start[1:]] - total[recordings.label_start[:-1]])
