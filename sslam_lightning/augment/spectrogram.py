"""Augmentation of normalized spectrograms: blanked stripes, noise and small shifts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sslam_lightning.rng import fold_in, integers, uniform

_TIME_STRIPE = int.from_bytes(b"time", "big")
_MEL_STRIPE = int.from_bytes(b"mel", "big")
_NOISE_LEVEL = int.from_bytes(b"level", "big")
_NOISE = int.from_bytes(b"noise", "big")
_FRAME_ROLL = int.from_bytes(b"froll", "big")


@dataclass(frozen=True)
class SpecAugment:
    """One blank stripe in time and one in frequency per clip (Park et al., Interspeech 2019).

    Widths and places are drawn as in torchaudio's ``TimeMasking`` and ``FrequencyMasking``. The stripes are 0, which
    after normalization is the mean of the data set.

    Args:
        time_mask_ratio: a time stripe is narrower than this share of all frames, 0 for none; 0.2 for AudioSet, 0.4 for
            ESC-50 in the recipes of EAT and SSLAM.
        freq_mask_ratio: the same for the mel bands.
    """

    time_mask_ratio: float = 0.2
    freq_mask_ratio: float = 0.2

    def __post_init__(self) -> None:
        for name, share in (("time_mask_ratio", self.time_mask_ratio), ("freq_mask_ratio", self.freq_mask_ratio)):
            if not 0.0 <= share <= 1.0:
                raise ValueError(f"SpecAugment: {name} must lie between 0 and 1, got {share}")

    def __call__(
        self, log_mels: Float[Tensor, "batch frames mels"], keys: Int[Tensor, "batch"]
    ) -> Float[Tensor, "batch frames mels"]:
        """The same clips with stripes; every clip has its own."""
        frames, mels = log_mels.shape[1:]
        in_time = _stripe(fold_in(keys, _TIME_STRIPE), frames, self.time_mask_ratio * frames)
        in_mel = _stripe(fold_in(keys, _MEL_STRIPE), mels, self.freq_mask_ratio * mels)
        return log_mels.masked_fill(in_time.unsqueeze(2) | in_mel.unsqueeze(1), 0.0)


def _stripe(keys: Int[Tensor, "batch"], size: int, widest: float) -> Bool[Tensor, "batch size"]:
    """True in one stripe per key: width uniform in [0, widest) and rounded down, start uniform where it fits."""
    draws = uniform(keys, 2)
    width = draws[:, :1] * widest
    start = (draws[:, 1:] * (size - width)).floor()
    place = torch.arange(size, device=keys.device)
    return (place >= start) & (place < start + width.floor())


def noise_and_roll(
    log_mels: Float[Tensor, "batch frames mels"],
    keys: Int[Tensor, "batch"],
    loudest: float = 0.1,
    max_roll_frames: int = 10,
) -> Float[Tensor, "batch frames mels"]:
    """Add uniform noise and shift circularly in time: the extra augmentation for Speech Commands (AST, EAT, SSLAM).

    The noise of a clip is uniform between 0 and a level that is itself uniform between 0 and ``loudest``. The shift is
    a whole number of frames from ``-max_roll_frames`` to ``max_roll_frames - 1``, as in the public code.

    Raises:
        ValueError: if ``max_roll_frames`` is below 1 or exceeds the clip.
    """
    frames, mels = log_mels.shape[1:]
    if not 1 <= max_roll_frames <= frames:
        raise ValueError(f"max_roll_frames must lie between 1 and the clip's {frames} frames, got {max_roll_frames}")
    level = uniform(fold_in(keys, _NOISE_LEVEL), 1).unsqueeze(-1) * loudest
    noise = uniform(fold_in(keys, _NOISE), frames * mels).unflatten(1, (frames, mels))
    shift = integers(fold_in(keys, _FRAME_ROLL), 1, 2 * max_roll_frames) - max_roll_frames
    source = (torch.arange(frames, device=log_mels.device) - shift) % frames
    return (log_mels + noise * level).take_along_dim(source.unsqueeze(-1), dim=1)
