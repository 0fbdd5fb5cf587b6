"""What the public projects do with a clip, written from their description: the yardstick of ``sslam benchmark data``.

Everything happens in the loader's worker and clip by clip: decode, resample with a kernel that is built for every call,
subtract the mean, Kaldi log-mels, pad or cut, normalize, then draw the masks of the clip's copies row by row.
"""

from __future__ import annotations

import numpy as np
import soundfile
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sslam_lightning.types import Grid

_RATE_HZ = 16000


def read_clip(path: str) -> tuple[Float[Tensor, "samples"], int]:
    """Decode a file and average its channels."""
    samples, rate_hz = soundfile.read(path, dtype="float32")
    return torch.from_numpy(samples if samples.ndim == 1 else samples.mean(axis=1)), rate_hz


def resample_clip(waveform: Float[Tensor, "samples"], rate_hz: int) -> Float[Tensor, "resampled"]:
    """To 16 kHz with default arguments."""
    from torchaudio.functional import resample

    return resample(waveform, rate_hz, _RATE_HZ)


def log_mels_of_clip(
    waveform: Float[Tensor, "samples"], num_frames: int, mean: float = -4.268, std: float = 4.569
) -> Float[Tensor, "frames mels"]:
    """Log-mels of one clip, padded with zeros or cut, then normalized."""
    from torchaudio.compliance import kaldi

    log_mels = kaldi.fbank(
        (waveform - waveform.mean())[None],
        htk_compat=True,
        sample_frequency=_RATE_HZ,
        use_energy=False,
        window_type="hanning",
        num_mel_bins=128,
        dither=0.0,
        frame_shift=10,
    )
    missing = num_frames - log_mels.shape[0]
    log_mels = torch.nn.functional.pad(log_mels, (0, 0, 0, missing)) if missing > 0 else log_mels[:num_frames]
    return (log_mels - mean) / (2 * std)


def masks_of_clip(
    grid: Grid, num_rows: int, rng: np.random.Generator, ratio: float = 0.8, side: int = 5, adjust: float = 0.07
) -> Bool[Tensor, "rows patches"]:
    """Inverse block masks, one row after the other; True means hidden."""
    return torch.stack([_mask_row(grid, rng, 1 - ratio, side, adjust) for _ in range(num_rows)])


def _mask_row(grid: Grid, rng: np.random.Generator, kept: float, side: int, adjust: float) -> Bool[Tensor, "patches"]:
    visible = np.zeros((grid.time, grid.freq), dtype=bool)
    num_centers = int(grid.num_patches * (kept + adjust) / side**2)
    offsets = np.arange(side) - side // 2
    for center in rng.integers(0, grid.num_patches, num_centers):
        time = np.clip(center // grid.freq + offsets, 0, grid.time - 1)
        mel = np.clip(center % grid.freq + offsets, 0, grid.freq - 1)
        visible[np.ix_(time, mel)] = True
    flat, wanted = visible.ravel(), int(grid.num_patches * kept)
    surplus = int(flat.sum()) - wanted
    if surplus > 0:
        flat[rng.choice(np.flatnonzero(flat), surplus, replace=False)] = False
    elif surplus < 0:
        flat[rng.choice(np.flatnonzero(~flat), -surplus, replace=False)] = True
    return torch.from_numpy(~flat)
