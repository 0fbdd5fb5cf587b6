from __future__ import annotations

import math

import pytest
import torch
from torchaudio.compliance import kaldi

from sslam_lightning.features import count_frames, kaldi_fbank
from sslam_lightning.features.fbank import Window, _mel_bank


def tones_and_noise(num_clips: int, num_samples: int) -> torch.Tensor:
    """Clips that cover a wide range of levels: noise of rising level, a tone and an offset."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(num_clips, num_samples, generator=generator) * torch.linspace(0, 0.3, num_samples) ** 3
    tone = torch.sin(2 * torch.pi * 440 * torch.arange(num_samples) / 16000)
    return noise + 0.1 * tone + 0.05


@pytest.mark.parametrize("window_type", ["hanning", "povey"])
@pytest.mark.parametrize(("sample_rate_hz", "num_mels"), [(16000, 128), (16000, 80), (8000, 40), (44100, 128)])
def test_equals_torchaudio(sample_rate_hz: int, num_mels: int, window_type: Window) -> None:
    """D1: also with torchaudio's default window."""
    waveforms = tones_and_noise(3, 2 * sample_rate_hz + 17)
    expected = torch.stack(
        [
            kaldi.fbank(
                row[None],
                htk_compat=True,
                sample_frequency=sample_rate_hz,
                use_energy=False,
                window_type=window_type,
                num_mel_bins=num_mels,
                dither=0.0,
                frame_shift=10,
            )
            for row in waveforms
        ]
    )
    # One unit in the last place of values around 10: the power is re^2 + im^2 here and |z|^2 there.
    torch.testing.assert_close(kaldi_fbank(waveforms, sample_rate_hz, num_mels, window_type), expected, atol=2e-6, rtol=0)


def test_silence_lies_on_the_floor() -> None:
    floor = math.log(torch.finfo(torch.float32).eps)
    assert kaldi_fbank(torch.full((1, 800), 0.3)).eq(torch.tensor(floor)).all()


def test_one_impulse_by_hand() -> None:
    """An impulse at sample 200 of the only frame leaves two samples, whose power spectrum is known."""
    waveform = torch.zeros(1, 400, dtype=torch.float64)
    waveform[0, 200] = 1.0
    n = torch.arange(400, dtype=torch.float64)
    window = 0.5 - 0.5 * torch.cos(2 * torch.pi * n / 399)
    signal = waveform[0] - 1 / 400
    emphasized = (signal - 0.97 * torch.cat([signal[:1], signal[:-1]])) * window
    angle = 2 * torch.pi / 512 * torch.outer(torch.arange(256, dtype=torch.float64), n)
    power = (angle.cos() @ emphasized) ** 2 + (angle.sin() @ emphasized) ** 2
    expected = (power @ _mel_bank(16000, 128, 512).double()).clamp(min=1.1920928955078125e-07).log()
    torch.testing.assert_close(kaldi_fbank(waveform.float())[0, 0].double(), expected, atol=1e-4, rtol=0)


def test_every_band_peaks_below_one_and_reaches_its_neighbors() -> None:
    bank = _mel_bank(16000, 40, 512)
    assert bank.min() == 0.0
    assert bank.max() <= 1.0
    # Bins from the first center to the last lie on exactly one falling and one rising side, which sum to 1.
    inner = slice(int(bank[:, 0].argmax()) + 1, int(bank[:, -1].argmax()))
    torch.testing.assert_close(bank[inner].sum(dim=1), torch.ones(inner.stop - inner.start), atol=1e-4, rtol=0)


def test_a_long_batch_equals_its_rows() -> None:
    waveforms = tones_and_noise(3, 16000 * 8)  # 2394 frames: cut into pieces that cross the clips' borders
    whole = kaldi_fbank(waveforms)
    for row, alone in zip(whole, waveforms, strict=True):
        torch.testing.assert_close(row, kaldi_fbank(alone[None])[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("num_samples", "frames"), [(0, 0), (399, 0), (400, 1), (559, 1), (560, 2), (160000, 998)])
def test_counts_frames(num_samples: int, frames: int) -> None:
    assert count_frames(num_samples) == frames
    assert count_frames(torch.tensor([num_samples])).tolist() == [frames]
    if frames:
        assert kaldi_fbank(torch.zeros(1, num_samples)).shape == (1, frames, 128)


def test_float32_under_autocast_and_from_half_precision() -> None:
    waveforms = tones_and_noise(1, 4000)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = kaldi_fbank(waveforms)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, kaldi_fbank(waveforms), atol=0, rtol=0)
    assert kaldi_fbank(waveforms.bfloat16()).dtype == torch.float32


def test_gradient_reaches_the_waveform_even_after_inference_mode_filled_the_cache() -> None:
    with torch.inference_mode():
        kaldi_fbank(torch.ones(1, 700), num_mels=61)  # nobody else uses 61 bands: the tables are made here
    generator = torch.Generator().manual_seed(2)
    # White noise: no band is so quiet that the logarithm bends within the step of the finite difference.
    waveform = torch.randn(1, 700, generator=generator, dtype=torch.float64)
    direction = torch.randn(1, 700, generator=generator, dtype=torch.float64) * 1e-4
    waveform.requires_grad_()
    kaldi_fbank(waveform, num_mels=61).sum().backward()
    assert waveform.grad is not None
    with torch.no_grad():
        change = (kaldi_fbank(waveform + direction, num_mels=61) - kaldi_fbank(waveform - direction, num_mels=61)).sum()
    assert (waveform.grad * direction).sum().item() == pytest.approx(change.item() / 2, rel=0.02)


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"a frame has 400 samples at 16000 Hz, got waveforms of 399 samples"):
        kaldi_fbank(torch.zeros(2, 399))
    with pytest.raises(ValueError, match="num_mels must be at least 4, got 3"):
        kaldi_fbank(torch.zeros(2, 400), num_mels=3)
