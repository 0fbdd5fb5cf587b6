"""Parts of recordings as clips of their own: long recordings are cut, and only the part that is asked for is decoded."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from torch import Tensor

from sslam_lightning.data.audio.read import check_is_file, open_sound, read_audio
from sslam_lightning.data.filesystem import for_libsndfile
from sslam_lightning.data.manifests.recordings import Recordings

_ROUNDING_SECONDS = 1e-3  # too little for a clip of its own


class Segment(NamedTuple):
    """A part of a file; ``seconds`` is infinite for all the rest of it."""

    name: str
    start_seconds: float = 0.0
    seconds: float = float("inf")


@dataclass(frozen=True, eq=False, kw_only=True)
class Excerpts(Recordings):
    """Recordings of which a part each is wanted."""

    start_seconds: Float[np.ndarray, "recordings"]
    length_seconds: Float[np.ndarray, "recordings"]

    def paths(self) -> Iterator[str]:
        """Where all files lie, each with the place where its excerpt starts."""
        starts = self.start_seconds.tolist()
        return (f"{path} from {s} s" if s else path for path, s in zip(super().paths(), starts, strict=True))

    def seconds(self, index: int, max_seconds: float | None) -> float | None:
        wanted = min(float(self.length_seconds[index]), float("inf") if max_seconds is None else max_seconds)
        return wanted if np.isfinite(wanted) else None

    def read(self, index: int, max_seconds: float | None = None) -> tuple[Float[Tensor, "samples"], int]:
        return read_audio(self.path(index), self.seconds(index, max_seconds), float(self.start_seconds[index]))


def make_excerpts(
    root: str, excerpts: Sequence[Segment], classes: Sequence[Sequence[int]], class_names: Sequence[str]
) -> Excerpts:
    """Pack excerpts into `Excerpts`. ``classes`` holds the class indices of every row."""
    return Excerpts.of_rows(
        root,
        (excerpt.name for excerpt in excerpts),
        classes,
        class_names,
        start_seconds=np.array([excerpt.start_seconds for excerpt in excerpts], dtype=np.float64),
        length_seconds=np.array([excerpt.seconds for excerpt in excerpts], dtype=np.float64),
    )


def cut(name: str, file_seconds: float, clip_seconds: float) -> list[Segment]:
    """A file as clips of one length, one after the other; the last one reaches back where the file does not come out even.

    A file shorter than a clip is a clip as it is.
    """
    if file_seconds <= clip_seconds:
        return [Segment(name)]
    starts = [float(start) for start in np.arange(int(file_seconds / clip_seconds)) * clip_seconds]
    if file_seconds - starts[-1] - clip_seconds > _ROUNDING_SECONDS:
        starts.append(file_seconds - clip_seconds)
    return [Segment(name, start, clip_seconds) for start in starts]


def duration_seconds(path: str | os.PathLike[str]) -> float:
    """How long a file is, told by its header; UnreadableAudio if it is not audio."""
    path = os.fspath(path)
    check_is_file(path)
    with open_sound(for_libsndfile(path), path) as sound:
        return sound.frames / sound.samplerate
