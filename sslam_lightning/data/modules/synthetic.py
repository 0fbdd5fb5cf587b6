"""Synthetic soundscapes for demos, tests and first steps, with labels that are known to be right.

A clip is one to a few different sounds (see `sslam_lightning.data.synthetic_sounds`) at random onsets, levels and
lengths over quiet noise. It is a function of (seed, split, index) alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from sslam_lightning.data.loading.dataset import ClipDataset, Key
from sslam_lightning.data.modules.base import AudioDataModule, Split
from sslam_lightning.data.synthetic_sounds import SOUNDS, Samples, background
from sslam_lightning.types import Clip

_SPLIT_NUMBER: dict[Split, int] = {"train": 0, "val": 1, "test": 2}
_SHORTEST_SHARE = 0.35  # of the clip that a sound lasts
_FADE_SECONDS = 0.01


class SyntheticDataset(ClipDataset):
    """Soundscapes of one split; see `SyntheticDataModule` for the arguments."""

    def __init__(
        self,
        num_clips: int,
        split: Split = "train",
        clip_seconds: float = 2.0,
        sample_rate_hz: int = 16000,
        num_classes: int = len(SOUNDS),
        max_sources: int = 3,
        seed: int = 0,
    ) -> None:
        if num_clips < 1:
            raise ValueError(f"a {split} split needs at least one clip, got {num_clips}")
        if not 1 <= num_classes <= len(SOUNDS):
            raise ValueError(f"num_classes must lie in 1..{len(SOUNDS)}, got {num_classes}")
        if not 1 <= max_sources <= num_classes:
            raise ValueError(f"max_sources must lie in 1..num_classes ({num_classes}), got {max_sources}")
        if sample_rate_hz < 4000 or clip_seconds < 0.1:
            raise ValueError(f"soundscapes need at least 4000 Hz and 0.1 s, got {sample_rate_hz} Hz and {clip_seconds} s")
        self.num_clips, self.split, self.seed = num_clips, split, seed
        self.num_samples, self.sample_rate_hz = round(clip_seconds * sample_rate_hz), sample_rate_hz
        self.num_classes, self.max_sources = num_classes, max_sources

    def __len__(self) -> int:
        return self.num_clips

    def __getitem__(self, key: Key) -> Clip:
        index = range(self.num_clips)[key if isinstance(key, int) else key[1]]
        rng = np.random.default_rng([self.seed, _SPLIT_NUMBER[self.split], index])
        present = rng.permutation(self.num_classes)[: rng.integers(1, self.max_sources + 1)]
        scene = _at_level(background(rng, self.num_samples, self.sample_rate_hz), rng.uniform(-55, -45))
        sounds = list(SOUNDS.values())
        for number in present:
            duration = round(self.num_samples * rng.uniform(_SHORTEST_SHARE, 1.0))
            onset = int(rng.integers(0, self.num_samples - duration + 1))
            sound = _faded(sounds[number](rng, duration, self.sample_rate_hz), round(_FADE_SECONDS * self.sample_rate_hz))
            scene[onset : onset + duration] += _at_level(sound, rng.uniform(-30, -18))
        scene /= max(1.0, float(np.abs(scene).max()))  # clicks have high peaks
        labels = torch.zeros(self.num_classes, dtype=torch.float32, device="cpu")
        labels[torch.from_numpy(present)] = 1.0
        return Clip(torch.from_numpy(scene), labels, index, f"synthetic/{self.split}/{index}")


class SyntheticDataModule(AudioDataModule):
    """Polyphonic soundscapes with multi-hot labels; needs no files.

    Args:
        num_train: clips per training epoch.
        num_val: clips of the validation split, and of the test split; 0: none.
        clip_seconds: length of every clip.
        num_classes: use the first so many kinds of sound, at most ten.
        max_sources: a clip holds one to so many different kinds.
        options: settings of `AudioDataModule`, but for max_clip_seconds.

    Raises:
        ValueError: a setting out of its range.
    """

    def __init__(
        self,
        num_train: int = 2000,
        num_val: int = 400,
        clip_seconds: float = 2.0,
        num_classes: int = len(SOUNDS),
        max_sources: int = 3,
        **options: Any,
    ) -> None:
        super().__init__(class_names=tuple(SOUNDS)[:num_classes], multi_label=True, max_clip_seconds=None, **options)
        self.num_train = num_train
        self.num_val = num_val
        self.clip_seconds = clip_seconds
        self.max_sources = max_sources
        SyntheticDataset(num_train, "train", clip_seconds, self.sample_rate_hz, num_classes, max_sources)  # checks

    def make_dataset(self, split: Split) -> SyntheticDataset | None:
        num_clips = self.num_train if split == "train" else self.num_val
        if num_clips == 0 and split != "train":
            return None
        return SyntheticDataset(
            num_clips, split, self.clip_seconds, self.sample_rate_hz, self.num_classes, self.max_sources, self.seed
        )


def _at_level(sound: Samples, decibels: float) -> Samples:
    """Scale to this root mean square, relative to full scale."""
    rms = float(np.sqrt(np.mean(np.square(sound)))) or 1.0
    return sound * np.float32(10 ** (decibels / 20) / rms)


def _faded(sound: Samples, num_fade: int) -> Samples:
    """Take the clicks from both ends."""
    ramp = np.linspace(0.0, 1.0, num_fade, dtype=np.float32)
    sound[:num_fade] *= ramp
    sound[-num_fade:] *= ramp[::-1]
    return sound
