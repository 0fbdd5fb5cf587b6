"""Decibel mels scaled to [0, 1], the input of BAT (arXiv 2602.16305), as its public code computes them.

The settings are those of torchaudio's ``MelSpectrogram`` and ``AmplitudeToDB``: a 64 ms Hann window around every tenth
millisecond, the clip mirrored at both ends, HTK mels from 0 Hz up, decibels of power.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sslam_lightning.features.fbank import Count, exact_product, hop_samples

_WINDOW_MS = 64
LEAST_POWER = 1e-10
_TOP_DECIBELS = 80.0  # what lies further below the loudest value of a clip counts as silence
_LEAST_SPAN = 1e-8
# Frames that go through the transform together, whole clips of them: as in `kaldi_fbank`.
_CPU_FRAMES = 1024
_DEVICE_FRAMES = 1 << 15


def fft_samples(sample_rate_hz: int) -> int:
    """Samples that one frame sees, 64 ms: 1024 at 16 kHz."""
    return sample_rate_hz * _WINDOW_MS // 1000


def count_centered_frames(num_samples: Count, sample_rate_hz: int = 16000) -> Count:
    """Frames whose middle lies within ``num_samples`` samples, both ends included."""
    return num_samples // hop_samples(sample_rate_hz) + 1


def mel_decibels(
    waveforms: Float[Tensor, "batch samples"],
    num_samples: Int[Tensor, "batch"],
    sample_rate_hz: int = 16000,
    num_mels: int = 128,
) -> Float[Tensor, "batch frames mels"]:
    """Decibels of the mel energies of every frame, float32 also under autocast.

    Equal up to rounding to torchaudio's ``AmplitudeToDB("power")(MelSpectrogram(n_fft=1024, hop_length=160)(row))``
    without its ``top_db``. Frames behind a row's own end see only what is mirrored there, or silence.

    Args:
        waveforms: mono, full scale 1.0.
        num_samples: valid samples of each row; what is behind them is ignored.
        sample_rate_hz: of the waveforms; the highest mel band ends at half of it.
        num_mels: triangular bands, equally spaced on the HTK mel scale.
    """
    size, hop = fft_samples(sample_rate_hz), hop_samples(sample_rate_hz)
    with torch.autocast(waveforms.device.type, enabled=False):
        window, mel_bank = decibel_tables(sample_rate_hz, num_mels, waveforms.device)
        frames = mirrored(waveforms.float(), num_samples, size // 2).unfold(1, size, hop)
        chunk = _CPU_FRAMES if waveforms.device.type == "cpu" else _DEVICE_FRAMES
        rows = max(1, chunk // frames.shape[1])
        return torch.cat([_decibels(part, window, mel_bank) for part in frames.split(rows)])


def mirrored(
    waveforms: Float[Tensor, "batch samples"], num_samples: Int[Tensor, "batch"], margin: int
) -> Float[Tensor, "batch longer"]:
    """Every clip with ``margin`` samples of its mirror image before its first and behind its own last sample, then 0."""
    end = num_samples.unsqueeze(1)
    place = torch.arange(waveforms.shape[1], device=waveforms.device)
    clips = torch.nn.functional.pad(waveforms.masked_fill(place >= end, 0.0), (margin, margin))
    steps = torch.arange(1, margin + 1, device=waveforms.device)
    clips[:, :margin] = clips[:, margin + steps].flip(1)
    last = (margin - 1 + end).clamp(min=margin)  # a clip without samples is mirrored into silence
    return clips.scatter(1, last + steps, clips.gather(1, last - steps))


def _decibels(
    frames: Float[Tensor, "rows frames window"], window: Float[Tensor, "window"], mel_bank: Float[Tensor, "bins mels"]
) -> Float[Tensor, "rows frames mels"]:
    spectrum = torch.view_as_real(torch.fft.rfft(frames * window))[..., : len(mel_bank), :]  # no band reaches Nyquist's bin
    power = spectrum[..., 0].square().addcmul(spectrum[..., 1], spectrum[..., 1])
    return exact_product(power, mel_bank).clamp(min=LEAST_POWER).log10() * 10.0


def scaled_decibels(
    decibels: Float[Tensor, "batch frames mels"], valid: Bool[Tensor, "batch frames"]
) -> Float[Tensor, "batch frames mels"]:
    """The upper 80 dB of every clip, with its quietest value at 0 and its loudest at 1.

    Extremes are those of the valid frames. Frames that are not valid are 0, and so is a clip of one level throughout.

    Args:
        decibels: see :func:`mel_decibels`.
        valid: True where a frame belongs to the clip, False behind its end.
    """
    inside = valid.unsqueeze(-1)
    loudest = decibels.masked_fill(~inside, -torch.inf).amax(dim=(1, 2), keepdim=True)
    decibels = torch.maximum(decibels, loudest - _TOP_DECIBELS)
    quietest = decibels.masked_fill(~inside, torch.inf).amin(dim=(1, 2), keepdim=True)
    return torch.where(inside, (decibels - quietest) / (loudest - quietest + _LEAST_SPAN), 0.0)


@lru_cache(maxsize=16)
def decibel_tables(
    sample_rate_hz: int, num_mels: int, device: torch.device
) -> tuple[Float[Tensor, "window"], Float[Tensor, "bins mels"]]:
    """The window and the mel bands, computed on the CPU, so that every device has the same numbers."""
    size = fft_samples(sample_rate_hz)
    with torch.inference_mode(False), torch.no_grad():  # a cached inference tensor would break a later backward pass
        window = torch.hann_window(size, dtype=torch.float32, device="cpu")
        return window.to(device), _mel_bank(sample_rate_hz, num_mels, size).to(device)


def _mel_bank(sample_rate_hz: int, num_mels: int, fft_size: int) -> Float[Tensor, "bins mels"]:
    """Triangles of height 1 on the axis of hertz, each from its left neighbor's center to its right neighbor's."""
    highest_mel = 2595.0 * math.log10(1.0 + sample_rate_hz / 2 / 700.0)
    mels = torch.arange(num_mels + 2, dtype=torch.float64, device="cpu") * (highest_mel / (num_mels + 1))
    left, center, right = (700.0 * (10.0 ** (mels / 2595.0) - 1.0)).unfold(0, num_mels, 1)
    hertz = (sample_rate_hz / fft_size * torch.arange(fft_size // 2, dtype=torch.float64, device="cpu")).unsqueeze(1)
    return torch.minimum((hertz - left) / (center - left), (right - hertz) / (right - center)).clamp(min=0.0).float()
