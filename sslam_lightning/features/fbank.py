"""Log-mel energies as Kaldi computes them, for a whole batch at once and on any device.

The settings are those of AST (Gong et al., Interspeech 2021), which EAT (Chen et al., 2024, section 4.1) and SSLAM
(Alex et al., ICLR 2025) keep: 25 ms Hann window every 10 ms, no dither, no energy column, HTK compatible. MAE-AST has
Kaldi's own window, ``povey``.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

_WINDOW_MS = 25
_HOP_MS = 10
_PRE_EMPHASIS = 0.97
_LOWEST_HZ = 20.0
# Frames that go through the transform together. On CPU as many as fit into the cache (2.2 ms a clip of ten seconds on
# two cores, against 6.5 ms in one piece); on other devices only so few that memory stays bounded.
_CPU_FRAMES = 1024
_DEVICE_FRAMES = 1 << 16

Count = TypeVar("Count", int, Int[Tensor, "batch"])
Window = Literal["hanning", "povey"]  # povey: Hann to the power of 0.85, Kaldi's default


def window_samples(sample_rate_hz: int) -> int:
    """Samples in one frame of 25 ms."""
    return sample_rate_hz * _WINDOW_MS // 1000


def hop_samples(sample_rate_hz: int) -> int:
    """Samples from the start of one frame to the start of the next, 10 ms."""
    return sample_rate_hz * _HOP_MS // 1000


def count_frames(num_samples: Count, sample_rate_hz: int = 16000) -> Count:
    """Frames that lie completely within ``num_samples`` samples; 0 where there is not even one."""
    hops = (num_samples - window_samples(sample_rate_hz)) // hop_samples(sample_rate_hz)
    return hops.clamp(min=-1) + 1 if isinstance(hops, Tensor) else max(hops, -1) + 1


def kaldi_fbank(
    waveforms: Float[Tensor, "batch samples"],
    sample_rate_hz: int = 16000,
    num_mels: int = 128,
    window_type: Window = "hanning",
) -> Float[Tensor, "batch frames mels"]:
    """Natural logarithm of the mel energies of every frame, float32 also under autocast.

    Equal within one unit in the last place to
    ``torchaudio.compliance.kaldi.fbank(row, htk_compat=True, window_type=window_type, use_energy=False, dither=0.0)``.

    Args:
        waveforms: mono, full scale 1.0 (not 32768).
        sample_rate_hz: of the waveforms; the highest mel band ends at half of it.
        num_mels: triangular bands, equally spaced on Kaldi's mel scale from 20 Hz up.
        window_type: the shape of a frame's window.

    Raises:
        ValueError: if the waveforms are shorter than one frame, or ``num_mels`` is below 4.
    """
    num_samples, window = waveforms.shape[1], window_samples(sample_rate_hz)
    if num_samples < window:
        raise ValueError(f"a frame has {window} samples at {sample_rate_hz} Hz, got waveforms of {num_samples} samples")
    if num_mels < 4:
        raise ValueError(f"num_mels must be at least 4, got {num_mels}")
    with torch.autocast(waveforms.device.type, enabled=False):
        tables = fbank_tables(sample_rate_hz, num_mels, waveforms.device, window_type)
        frames = waveforms.float().unfold(1, window, hop_samples(sample_rate_hz))
        chunk = _CPU_FRAMES if waveforms.device.type == "cpu" else _DEVICE_FRAMES
        log_mels = [_log_mels(part, *tables) for part in frames.flatten(0, 1).split(chunk)]
        return torch.cat(log_mels).view(*frames.shape[:2], num_mels)


def _log_mels(
    frames: Float[Tensor, "frames window"], window: Float[Tensor, "window"], mel_bank: Float[Tensor, "bins mels"]
) -> Float[Tensor, "frames mels"]:
    """The chain of Kaldi's ``compute-fbank-feats``: center, pre-emphasize, window, power spectrum, bands, log."""
    signal = frames - frames.mean(dim=1, keepdim=True)
    # Multiply first and subtract then: a fused multiply-add rounds once less and is off by 1e-3 in quiet bands.
    previous = signal * _PRE_EMPHASIS
    signal[:, 1:] -= previous[:, :-1]
    signal[:, 0] -= previous[:, 0]  # a frame has nothing before its first sample; Kaldi takes the sample itself
    signal *= window
    num_bins = mel_bank.shape[0]
    spectrum = torch.view_as_real(torch.fft.rfft(signal, n=2 * num_bins))[:, :num_bins]  # no band reaches Nyquist's bin
    power = spectrum[..., 0].square().addcmul(spectrum[..., 1], spectrum[..., 1])
    return exact_product(power, mel_bank).clamp(min=torch.finfo(torch.float32).eps).log()


def exact_product(power: Float[Tensor, "*frames bins"], mel_bank: Float[Tensor, "bins mels"]) -> Tensor:
    """Of float32, also where the user has allowed the model's own products to be rounded to TF32."""
    if power.is_cuda and torch.get_float32_matmul_precision() != "highest":
        return (power.double() @ mel_bank.double()).float()
    return power @ mel_bank


@lru_cache(maxsize=16)
def fbank_tables(
    sample_rate_hz: int, num_mels: int, device: torch.device, window_type: Window = "hanning"
) -> tuple[Float[Tensor, "window"], Float[Tensor, "bins mels"]]:
    """The window and the mel bands, computed on the CPU, so that every device has the same numbers."""
    window_size = window_samples(sample_rate_hz)
    with torch.inference_mode(False), torch.no_grad():  # a cached inference tensor would break a later backward pass
        window = torch.hann_window(window_size, periodic=False, dtype=torch.float32, device="cpu")
        if window_type == "povey":
            window = window.pow(0.85)
        fft_size = 1 << (window_size - 1).bit_length()
        mel_bank = _mel_bank(sample_rate_hz, num_mels, fft_size)
        return window.to(device), mel_bank.to(device)


def _mel(hertz: float) -> float:
    """Kaldi's mel scale."""
    return 1127.0 * math.log(1.0 + hertz / 700.0)


def _mel_bank(sample_rate_hz: int, num_mels: int, fft_size: int) -> Float[Tensor, "bins mels"]:
    """Triangles of height 1 on the mel axis, each from its left neighbor's center to its right neighbor's."""
    lowest_mel, highest_mel = _mel(_LOWEST_HZ), _mel(sample_rate_hz / 2)
    spacing = (highest_mel - lowest_mel) / (num_mels + 1)
    band = torch.arange(num_mels, dtype=torch.float32, device="cpu")
    left, center, right = (lowest_mel + (band + place) * spacing for place in range(3))
    hertz = sample_rate_hz / fft_size * torch.arange(fft_size // 2, dtype=torch.float32, device="cpu")
    mel = 1127.0 * (1.0 + hertz / 700.0).log().unsqueeze(1)
    return torch.minimum((mel - left) / (center - left), (right - mel) / (right - center)).clamp(min=0.0)
