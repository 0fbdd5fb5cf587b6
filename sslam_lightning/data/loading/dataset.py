"""Recordings as clips: a file is decoded, resampled and cut when it is asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple

from torch.utils.data import Dataset

from sslam_lightning.data.audio.read import UnreadableAudio
from sslam_lightning.data.audio.resample import check_resampler, resample
from sslam_lightning.data.manifests.recordings import Recordings
from sslam_lightning.types import Clip, ResamplerName

Key = int | tuple[int, int]  # index in the data set, or (epoch, index)


class BrokenClip(NamedTuple):
    """A recording that could not be read; no other clip takes its place."""

    name: str
    reason: str


class ClipDataset(Dataset[Clip | BrokenClip], ABC):
    """What the data modules load from: clips by their index, or by (epoch, index)."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, key: Key) -> Clip | BrokenClip: ...

    def name(self, index: int) -> str:
        """The name of a clip in messages, without reading it: its file, where it has one."""
        return f"clip {index}"

    def fingerprint(self) -> str:
        """A digest of the clips and their order, where the data set can tell."""
        return ""

    def paths(self) -> Iterator[str]:
        """What tells the clips from those of other data sets, in their order; nothing where they are synthetic."""
        return iter(())


class RecordingDataset(ClipDataset):
    """Map-style data set of mono clips at one sample rate, each as long as its file.

    Args:
        recordings: files and labels.
        sample_rate_hz: rate of the waveforms.
        resampler: see `sslam_lightning.data.audio.resample`.
        max_clip_seconds: keep only this much from the start of every file; None: all of it.

    Raises:
        ValueError: a sample rate or length that is not positive, an unknown resampler.
    """

    def __init__(
        self,
        recordings: Recordings,
        sample_rate_hz: int = 16000,
        resampler: ResamplerName = "torchaudio",
        max_clip_seconds: float | None = None,
    ) -> None:
        check_resampler(resampler)
        if sample_rate_hz <= 0:
            raise ValueError(f"sample_rate_hz must be positive, got {sample_rate_hz}")
        if max_clip_seconds is not None and round(max_clip_seconds * sample_rate_hz) < 1:
            raise ValueError(f"max_clip_seconds must leave at least one sample, got {max_clip_seconds}")
        self.recordings, self.max_clip_seconds = recordings, max_clip_seconds
        self.sample_rate_hz, self.resampler = sample_rate_hz, resampler

    def __len__(self) -> int:
        return len(self.recordings)

    def fingerprint(self) -> str:
        return self.recordings.names.fingerprint()

    def paths(self) -> Iterator[str]:
        return self.recordings.paths()

    def name(self, index: int) -> str:
        return self.recordings.path(index)

    def __getitem__(self, key: Key) -> Clip | BrokenClip:
        index = key if isinstance(key, int) else key[1]  # a file sounds the same in every epoch
        name = self.recordings.names[index]
        max_seconds = self.recordings.seconds(index, self.max_clip_seconds)
        try:
            waveform, rate_hz = self.recordings.read(index, max_seconds)
        except UnreadableAudio as error:
            return BrokenClip(name, str(error))
        waveform = resample(waveform, rate_hz, self.sample_rate_hz, self.resampler)
        if max_seconds is not None:
            waveform = waveform[: round(max_seconds * self.sample_rate_hz)]
        if len(waveform) == 0:
            return BrokenClip(name, f"{self.recordings.path(index)}: too short, nothing is left after resampling")
        return Clip(waveform, self.recordings.labels(index), index, name)
