"""Recordings with annotated events: every clip brings its events (class, onset, offset), and their classes as tags."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int

from sslam_lightning.data.loading.dataset import BrokenClip, Key, RecordingDataset
from sslam_lightning.data.manifests.recordings import PackedStrings
from sslam_lightning.data.manifests.segments import Segment, cut, duration_seconds, make_excerpts
from sslam_lightning.data.modules.base import AudioDataModule, Split
from sslam_lightning.types import Clip, Event, Events, ResamplerName


class Annotated(NamedTuple):
    """A file and its events."""

    name: str
    events: Sequence[Event]


class Places(NamedTuple):
    """Where in which file every clip of a data set begins."""

    files: Sequence[str]
    file_of: Int[np.ndarray, "clips"]
    start_seconds: Float[np.ndarray, "clips"]


class EventDataset(RecordingDataset):
    """Clips with their events. A clip's labels are the classes of the events that it holds a part of.

    Args:
        root: folder that the names are relative to.
        files: recordings and their events.
        class_names: of the labels of events.
        clip_seconds: cut the files into clips of this length; None: a file is a clip.
        sample_rate_hz, resampler, max_clip_seconds: as for `RecordingDataset`; events beyond ``max_clip_seconds`` are cut.

    Raises:
        ValueError: an event whose label is no class.
        UnreadableAudio: a file that has to be cut and cannot be read.
    """

    def __init__(
        self,
        root: str | Path,
        files: Sequence[Annotated],
        class_names: Sequence[str],
        clip_seconds: float | None = None,
        sample_rate_hz: int = 16000,
        resampler: ResamplerName = "torchaudio",
        max_clip_seconds: float | None = None,
    ) -> None:
        if clip_seconds is not None and clip_seconds <= 0:
            raise ValueError(f"clip_seconds must be positive, got {clip_seconds}")
        self._events = _pack(files, class_names)
        self._event_start = np.cumsum([0, *(len(file.events) for file in files)])
        longest = float("inf") if max_clip_seconds is None else max_clip_seconds
        file_of: list[int] = []
        parts: list[Segment] = []
        for number, (name, _) in enumerate(files):
            cuts = [Segment(name)]
            if clip_seconds is not None:
                cuts = cut(name, duration_seconds(Path(root, name)), clip_seconds)
            parts += [part._replace(seconds=min(part.seconds, longest)) for part in cuts]
            file_of += [number] * len(cuts)
        heard = [self._inside(file, part.start_seconds, part.seconds) for file, part in zip(file_of, parts, strict=True)]
        tags = [events.class_index.unique().tolist() for events in heard]
        self.excerpts = make_excerpts(str(root), parts, tags, class_names)
        super().__init__(self.excerpts, sample_rate_hz, resampler, max_clip_seconds)
        names = PackedStrings(file.name for file in files)
        self.places = Places(names, np.array(file_of), self.excerpts.start_seconds)

    def __getitem__(self, key: Key) -> Clip | BrokenClip:
        clip = super().__getitem__(key)
        if isinstance(clip, BrokenClip):
            return clip
        index, excerpts = clip.clip_index, self.excerpts
        start, length = float(excerpts.start_seconds[index]), float(excerpts.length_seconds[index])
        return clip._replace(events=self._inside(int(self.places.file_of[index]), start, length))

    def events(self, file: int) -> list[Event]:
        """All events of a file, in seconds from its beginning."""
        names = self.recordings.class_names
        columns = (column.tolist() for column in self._events_of(file))
        return [Event(onset, offset, names[number]) for number, onset, offset in zip(*columns, strict=True)]

    def _events_of(self, file: int) -> Events:
        rows = slice(self._event_start[file], self._event_start[file + 1])
        return Events(*(column[rows] for column in self._events))

    def _inside(self, file: int, start_seconds: float, length_seconds: float) -> Events:
        """The events in a part of a file, in seconds from the part's beginning."""
        number, onset, offset = self._events_of(file)
        onset = (onset - start_seconds).clamp(min=0.0).float()
        offset = (offset - start_seconds).clamp(max=length_seconds).float()
        heard = offset > onset
        return Events(number[heard], onset[heard], offset[heard])


class EventDataModule(AudioDataModule, ABC):
    """Base of data sets with events. They serve as tagged clips (``multi_label``) and for detection alike.

    Args:
        root: folder that the files' names are relative to.
        class_names: of the labels of events.
        clip_seconds: cut the files into clips of this length; None: a file is a clip.
        options: settings of `AudioDataModule`.
    """

    def __init__(
        self, root: str | Path, class_names: Sequence[str], clip_seconds: float | None = None, **options: Any
    ) -> None:
        super().__init__(class_names=class_names, multi_label=True, **options)
        self.root = Path(root)
        self.clip_seconds = clip_seconds

    @abstractmethod
    def annotated(self, split: Split) -> list[Annotated] | None:
        """The files of a split and their events; None where there is no such split."""

    def make_dataset(self, split: Split) -> EventDataset | None:
        files = self.annotated(split)
        if files is None:
            return None
        audio = self.sample_rate_hz, self.resampler, self.max_clip_seconds
        return EventDataset(self.root, files, self.class_names, self.clip_seconds, *audio)


def places_of(dataset: RecordingDataset) -> Places:
    """Where the clips of any recordings lie; without events, a file is one clip."""
    if isinstance(dataset, EventDataset):
        return dataset.places
    return Places(dataset.recordings.names, np.arange(len(dataset)), np.zeros(len(dataset)))


def _pack(files: Sequence[Annotated], class_names: Sequence[str]) -> Events:
    """The events of all files in flat columns, which worker processes share."""
    class_of = {name: number for number, name in enumerate(class_names)}
    for name, events in files:
        if unknown := next((event.label for event in events if event.label not in class_of), None):
            raise ValueError(f"{name}: the event {unknown!r} is none of the classes {', '.join(class_names)}")
    events = [event for file in files for event in file.events]
    return Events(
        torch.tensor([class_of[event.label] for event in events], dtype=torch.int64, device="cpu"),
        torch.tensor([event.onset_seconds for event in events], dtype=torch.float64, device="cpu"),
        torch.tensor([event.offset_seconds for event in events], dtype=torch.float64, device="cpu"),
    )
