"""Mixtures of two clips of different classes, made on the fly: polyphonic test sets of monophonic recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from sslam_lightning.data.loading.dataset import BrokenClip, ClipDataset, Key, RecordingDataset
from sslam_lightning.data.modules.base import AudioDataModule, Split
from sslam_lightning.data.modules.esc50 import ESC50DataModule
from sslam_lightning.types import Clip

_SPLIT_NUMBER: dict[Split, int] = {"train": 0, "val": 1, "test": 1}


class MixtureDataset(ClipDataset):
    """Sums of two clips of different classes each, with the labels of both; see `ESC50MixturesDataModule`.

    Which clips, and the level of the second one, are functions of (seed, split, index) alone. Both are scaled to the same
    root mean square before; the shorter one ends in silence.
    """

    def __init__(
        self,
        clips: RecordingDataset,
        num_mixtures: int,
        split: Split = "train",
        max_level_decibels: float = 5.0,
        seed: int = 0,
    ) -> None:
        if num_mixtures < 1:
            raise ValueError(f"a {split} split needs at least one mixture, got {num_mixtures}")
        if max_level_decibels < 0:
            raise ValueError(f"max_level_decibels must not be negative, got {max_level_decibels}")
        self.clips, self.num_mixtures, self.split = clips, num_mixtures, split
        self.max_level_decibels, self.seed = max_level_decibels, seed
        self._classes = np.array([clips.recordings.classes(index)[0] for index in range(len(clips))])
        if len(np.unique(self._classes)) < 2:
            raise ValueError(f"the {split} clips are all of one class: two of different ones are mixed")

    def __len__(self) -> int:
        return self.num_mixtures

    def name(self, index: int) -> str:
        first, second, _ = self.parts(index)
        return f"{self.clips.name(first)} + {self.clips.name(second)}"

    def parts(self, index: int) -> tuple[int, int, float]:
        """The indices of both clips, and the level of the second over the first in decibels."""
        rng = np.random.default_rng([self.seed, _SPLIT_NUMBER[self.split], range(self.num_mixtures)[index]])
        first = int(rng.integers(len(self.clips)))
        others = np.flatnonzero(self._classes != self._classes[first])
        level = rng.uniform(-self.max_level_decibels, self.max_level_decibels)
        return first, int(others[rng.integers(len(others))]), float(level)

    def __getitem__(self, key: Key) -> Clip | BrokenClip:
        index = range(self.num_mixtures)[key if isinstance(key, int) else key[1]]
        first_index, second_index, level = self.parts(index)
        first, second = self.clips[first_index], self.clips[second_index]
        if isinstance(first, BrokenClip):
            return first
        if isinstance(second, BrokenClip):
            return second
        mixed = torch.zeros(max(len(first.waveform), len(second.waveform)), dtype=torch.float32, device="cpu")
        for clip, gain in ((first, 1.0), (second, 10 ** (level / 20))):
            rms = float(clip.waveform.square().mean().sqrt()) or 1.0
            mixed[: len(clip.waveform)] += clip.waveform * (gain / rms)
        mixed *= 0.5 / max(float(mixed.abs().max()), 1e-9)
        return Clip(mixed, (first.labels + second.labels).clamp(max=1.0), index, f"{first.name} + {second.name}")


class ESC50MixturesDataModule(AudioDataModule):
    """Two-source mixtures of ESC-50's clips: of the training folds for training, of one fold for validation and test.

    Args:
        root: folder of the data set, see `ESC50DataModule`.
        fold: held out.
        num_train: training mixtures.
        num_test: mixtures of the held-out fold.
        max_level_decibels: the second clip is up to so much louder or softer than the first.
        esc10: only the rows of the ESC-10 subset.
        mixture_seed: of what is mixed with what.
        options: settings of `AudioDataModule`.

    Raises:
        FileNotFoundError, ValueError: as `ESC50DataModule`, and if there is nothing to mix.
    """

    def __init__(
        self,
        root: str | Path,
        fold: int = 1,
        num_train: int = 1000,
        num_test: int = 250,
        max_level_decibels: float = 5.0,
        esc10: bool = False,
        mixture_seed: int = 0,
        **options: Any,
    ) -> None:
        self.clips = ESC50DataModule(root, fold, esc10=esc10, **options)
        super().__init__(class_names=self.clips.class_names, multi_label=True, **options)
        self.num_mixtures: dict[Split, int] = {"train": num_train, "val": num_test, "test": num_test}
        self.max_level_decibels, self.mixture_seed = max_level_decibels, mixture_seed

    def make_dataset(self, split: Split) -> MixtureDataset:
        clips = self.clips.dataset(split)
        assert isinstance(clips, RecordingDataset)
        return MixtureDataset(clips, self.num_mixtures[split], split, self.max_level_decibels, self.mixture_seed)
