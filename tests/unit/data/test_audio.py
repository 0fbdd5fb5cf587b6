from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st
from wrong_headers import told_as

from sslam_lightning.data.audio.read import UnreadableAudio, decode_audio, read_audio
from sslam_lightning.data.audio.resample import resample, resample_rows
from sslam_lightning.data.audio.sinc_resampler import SincResampler


def noise(num_samples: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(num_samples, generator=torch.Generator().manual_seed(seed)) * 0.1


def test_reads_wav_exactly(tmp_path: Path) -> None:
    samples = noise(1000).numpy()
    soundfile.write(tmp_path / "a.wav", samples, 22050, subtype="FLOAT")
    waveform, rate_hz = read_audio(tmp_path / "a.wav")
    assert rate_hz == 22050
    assert waveform.dtype == torch.float32
    torch.testing.assert_close(waveform, torch.from_numpy(samples), rtol=0, atol=0)


@pytest.mark.parametrize("channels", [2, 3, 6])
def test_averages_channels_not_samples(tmp_path: Path, channels: int) -> None:
    samples = np.stack([np.full(50, 0.1 * (c + 1), dtype=np.float32) for c in range(channels)], axis=1)
    soundfile.write(tmp_path / "a.wav", samples, 8000, subtype="FLOAT")
    waveform, _ = read_audio(tmp_path / "a.wav")
    torch.testing.assert_close(waveform, torch.full((50,), 0.1 * (channels + 1) / 2))


@pytest.mark.parametrize(("suffix", "tolerance"), [("flac", 1e-4), ("ogg", 0.05), ("mp3", 0.05)])
def test_reads_compressed_files(tmp_path: Path, suffix: str, tolerance: float) -> None:
    samples = (0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)).astype(np.float32)
    soundfile.write(tmp_path / f"a.{suffix}", np.stack([samples, samples], axis=1), 16000)
    waveform, rate_hz = read_audio(tmp_path / f"a.{suffix}")
    assert rate_hz == 16000
    assert abs(len(waveform) - 16000) <= 2400  # mp3 pads with frames of 1152 samples
    spectrum = torch.fft.rfft(waveform[4000:12000]).abs()
    assert spectrum.argmax() == 220  # 440 Hz in half a second
    assert abs(float(waveform[4000:12000].square().mean().sqrt()) - 0.5 / 2**0.5) < tolerance


def test_max_seconds_reads_the_start_with_a_margin(tmp_path: Path) -> None:
    samples = noise(16000).numpy()
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    waveform, _ = read_audio(tmp_path / "a.wav", max_seconds=0.5)
    assert len(waveform) == 9600
    torch.testing.assert_close(waveform, torch.from_numpy(samples[:9600]), rtol=0, atol=0)


def test_unreadable_files_say_why(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("this is no sound\n")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0, dtype=np.float32), 16000)
    for name, bad in (("nan", np.nan), ("inf", np.inf)):
        samples = np.array([0.0, bad, 0.0], dtype=np.float32)
        soundfile.write(tmp_path / f"{name}.wav", samples, 16000, subtype="FLOAT")
    expected = {
        "absent.wav": "no such file",
        ".": "is a folder",
        "text.wav": "not readable as audio",
        "empty.wav": "holds no samples",
        "nan.wav": "NaN or infinite",
        "inf.wav": "NaN or infinite",
    }
    for name, reason in expected.items():
        with pytest.raises(UnreadableAudio, match=reason) as caught:
            read_audio(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("from_hz", "to_hz"), [(44100, 16000), (8000, 16000), (22050, 32000), (11025, 16000)])
def test_resampler_is_torchaudios_default(from_hz: int, to_hz: int) -> None:
    waveform = noise(from_hz // 3)
    ours = resample(waveform, from_hz, to_hz)
    torch.testing.assert_close(ours, torchaudio.functional.resample(waveform, from_hz, to_hz), rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", ["torchaudio", "soxr"])
def test_resampling_keeps_a_tone(method: str) -> None:
    if method == "soxr":
        pytest.importorskip("soxr")
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(44100) / 44100)
    resampled = resample(tone, 44100, 16000, method)
    assert len(resampled) == 16000
    expected = torch.sin(2 * torch.pi * 1000 * torch.arange(16000) / 16000)
    torch.testing.assert_close(resampled[200:-200], expected[200:-200], rtol=0, atol=2e-3)


def test_equal_rates_change_nothing() -> None:
    waveform = noise(100)
    assert resample(waveform, 16000, 16000) is waveform


def test_rates_are_whole_numbers_of_hertz() -> None:
    """U9: other libraries hand them out as floats."""
    waveform = noise(1000)
    for method in ("torchaudio", *(["soxr"] if find_spec("soxr") else [])):
        assert torch.equal(resample(waveform, 44100.0, 16000.0, method), resample(waveform, 44100, 16000, method))
    for rates, name in (((44100.5, 16000), "from_hz"), ((16000, 44100.5), "to_hz")):
        for call, sound in ((resample, waveform), (resample_rows, waveform[None])):
            with pytest.raises(ValueError, match=rf"^{name} must be a whole number of Hz, got 44100\.5$"):
                call(sound, *rates)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="resampler must be one of torchaudio, soxr, got 'sox'"):
        resample(noise(10), 8000, 16000, "sox")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="positive, got 0 Hz"):
        resample(noise(10), 0, 16000)


def test_rates_without_a_common_divisor_need_no_table_of_gigabytes() -> None:
    """44099 and 16000 share none: torchaudio's kernel would have 16000 x 44133 elements."""
    sinc = SincResampler(44099, 16000)
    assert sinc._filters.numel() < 16000 * 100
    tone = torch.sin(2 * torch.pi * 440 * torch.arange(44099) / 44099)
    expected = torch.sin(2 * torch.pi * 440 * torch.arange(16000) / 16000)
    resampled = resample(tone, 44099, 16000)
    assert len(resampled) == 16000
    torch.testing.assert_close(resampled[50:-50], expected[50:-50], rtol=0, atol=2e-3)  # the filter's own ripple


@settings(deadline=None, derandomize=True)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 300))
def test_any_rates_and_lengths_are_torchaudios(from_hz: int, to_hz: int, num_samples: int) -> None:
    waveform = noise(num_samples)
    expected = torchaudio.functional.resample(waveform, from_hz, to_hz)
    torch.testing.assert_close(resample(waveform, from_hz, to_hz), expected, rtol=0, atol=1e-6)


def test_absent_soxr_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soxr", None)
    with pytest.raises(RuntimeError, match=r"^soxr cannot be imported.*data.resampler: torchaudio") as caught:
        resample(noise(100), 8000, 16000, "soxr")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rate_hz", [0x40003E80, 2**31 - 1, 768_001, 999])
def test_a_rate_that_no_recording_has_is_refused(tmp_path: Path, rate_hz: int) -> None:
    path = tmp_path / "broken.wav"
    path.write_bytes(told_as(rate_hz, noise(1000).numpy()))
    message = f"{path}: implausible sample rate: {rate_hz} Hz, expected 1000 to 768000 Hz"
    for read in (lambda: read_audio(path), lambda: decode_audio(path.read_bytes(), str(path))):
        with pytest.raises(UnreadableAudio) as caught:
            read()
        assert str(caught.value) == message


@pytest.mark.parametrize("rate_hz", [1000, 768_000])
def test_the_outermost_rates_are_read(tmp_path: Path, rate_hz: int) -> None:
    (tmp_path / "a.wav").write_bytes(told_as(rate_hz, noise(1000).numpy()))
    assert read_audio(tmp_path / "a.wav")[1] == rate_hz


def test_reads_real_recordings(esc10: Path) -> None:
    path = sorted((esc10 / "audio").iterdir())[0]
    waveform, rate_hz = read_audio(path)
    assert rate_hz == 44100
    assert abs(len(waveform) - 5 * 44100) < 1024  # whole ogg blocks
    assert 0.0 < float(waveform.abs().max()) <= 1.5


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg"])
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"clip.{kind}"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.1, 0.1, 16000), 16000)
    whole = path.read_bytes()
    assert len(read_audio(path)[0]) == 16000
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnreadableAudio, match=r"clip\.\w+: (truncated: \d+ bytes|not readable as|holds no)"):
        read_audio(path)


def test_a_length_that_the_writer_could_not_know_is_no_cut(tmp_path: Path) -> None:
    path = tmp_path / "stream.wav"
    soundfile.write(path, np.zeros(1000), 16000)
    whole = path.read_bytes()
    path.write_bytes(whole[:4] + b"\xff\xff\xff\xff" + whole[8:40] + b"\xff\xff\xff\xff" + whole[44:])
    assert len(read_audio(path)[0]) == 1000
