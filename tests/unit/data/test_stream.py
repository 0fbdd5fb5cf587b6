"""Recordings by blocks are the recordings as a whole."""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torchaudio.functional import resample as torchaudio_resample
from wrong_headers import told_as

from sslam_lightning.data.audio.read import UnreadableAudio, read_audio
from sslam_lightning.data.audio.resample import resample, resample_rows, streaming_resampler
from sslam_lightning.data.audio.stream import stream_audio
from sslam_lightning.data.audio.wav import encode_wav

RATES = [8000, 11025, 22050, 32000, 44100, 48000, 96000]


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * 0.2


@pytest.mark.parametrize("rate_hz", RATES)
@pytest.mark.parametrize("block", [777, 100_000])
def test_resampling_by_blocks_is_torchaudios_of_the_whole(rate_hz: int, block: int) -> None:
    whole = noise(1, 2 * rate_hz + 17)
    converter = streaming_resampler(rate_hz, 16000)
    parts = [converter.push(part) for part in whole.split(block, dim=1)]
    torch.testing.assert_close(
        torch.cat([*parts, converter.finish()], dim=1), torchaudio_resample(whole, rate_hz, 16000), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("rate_hz", [44099, 997])
def test_a_rate_without_a_large_divisor_by_blocks_is_that_of_the_whole(rate_hz: int) -> None:
    whole = noise(2, 100_000)
    converter = streaming_resampler(rate_hz, 16000)
    parts = [converter.push(part) for part in whole.split(7001, dim=1)]
    expected = torch.stack([resample(row, rate_hz, 16000) for row in whole])
    torch.testing.assert_close(torch.cat([*parts, converter.finish()], dim=1), expected, atol=1e-6, rtol=0)


def test_several_rows_are_each_torchaudios() -> None:
    whole = noise(3, 3001)
    torch.testing.assert_close(
        resample_rows(whole, 22050, 16000), torchaudio_resample(whole, 22050, 16000), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("rows", [1, 3])
def test_soxr_by_blocks_is_soxr_of_the_whole(rows: int) -> None:
    pytest.importorskip("soxr")
    whole = noise(rows, 50_000)
    converter = streaming_resampler(44100, 16000, "soxr")
    parts = [converter.push(part) for part in whole.split(7000, dim=1)]
    joined = torch.cat([*parts, converter.finish()], dim=1)
    expected = torch.stack([resample(row, 44100, 16000, "soxr") for row in whole])
    torch.testing.assert_close(joined, expected, atol=1e-5, rtol=0)


def test_equal_rates_change_nothing() -> None:
    assert torch.equal(resample_rows(noise(2, 100), 16000, 16000), noise(2, 100))


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3"])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_file_by_blocks_is_the_same(tmp_path: Path, name: str, channels: int) -> None:
    path = tmp_path / name
    soundfile.write(path, noise(60_000, channels).numpy(), 44100)
    waveform, rate_hz = read_audio(path)
    parts = list(stream_audio(path, 16000, block_seconds=0.3))
    assert len(parts) == 6  # five blocks and the resampler's rest
    torch.testing.assert_close(torch.cat(parts), resample(waveform, rate_hz, 16000), atol=1e-5, rtol=0)


def test_unreadable_files_are_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("no sound")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 16000)
    soundfile.write(tmp_path / "nan.wav", np.array([0.0, np.nan]), 16000, subtype="FLOAT")
    (tmp_path / "rate.wav").write_bytes(told_as(0x40003E80, noise(100).numpy()))
    soundfile.write(tmp_path / "cut.wav", noise(1000).numpy(), 16000)
    (tmp_path / "cut.wav").write_bytes((tmp_path / "cut.wav").read_bytes()[:1044])
    for name, message in {
        "rate.wav": "implausible sample rate: 1073757824 Hz, expected 1000 to 768000 Hz",
        "cut.wav": "truncated: 1000 bytes are missing at its end",
        "text.wav": "not readable as audio (Format not recognised.)",
        "empty.wav": "holds no samples",
        "nan.wav": "holds samples that are NaN or infinite",
        "none.wav": "no such file",
        ".": "is a folder, not a file",
    }.items():
        with pytest.raises(UnreadableAudio) as caught:
            list(stream_audio(tmp_path / name, 16000))
        assert str(caught.value) == f"{tmp_path / name}: {message}"
    with pytest.raises(ValueError, match="sample rates must be positive, got 0 Hz and 16000 Hz"):
        streaming_resampler(0, 16000)


def test_a_name_that_is_not_utf_8_is_read(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.wav")
    path.write_bytes(encode_wav(noise(1600).numpy(), 16000))
    assert torch.equal(torch.cat(list(stream_audio(path, 16000))), noise(1600))


def test_m4a_needs_torchcodec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    (tmp_path / "a.m4a").write_bytes(b"x")
    with pytest.raises(
        UnreadableAudio, match=r"a\.m4a: \.m4a needs FFmpeg and torchcodec: pip install 'sslam-lightning\[m4a\]'"
    ):
        list(stream_audio(tmp_path / "a.m4a", 16000))


class FFmpeg:
    """torchcodec's decoder as far as it is used: metadata, and samples played in a range of seconds."""

    whole = noise(2, 44100 * 5 // 2)
    duration: float | None = 2.5

    def __init__(self, path: str) -> None:
        if self.duration == 0:
            raise RuntimeError("Could not load libtorchcodec. Likely causes: FFmpeg is not properly installed")
        self.metadata = types.SimpleNamespace(sample_rate=44100, duration_seconds_from_header=self.duration)

    def get_samples_played_in_range(self, start: float, stop: float) -> types.SimpleNamespace:
        data = self.whole[:, round(start * 44100) : round(stop * 44100)]
        if data.shape[1] == 0:
            raise RuntimeError("get_frames, a.cpp:1217, No audio frames were decoded. This is probably because start_sec")
        return types.SimpleNamespace(data=data)


@pytest.fixture
def ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A file that `FFmpeg` reads."""

    def make(extension: str, **settings: object) -> Path:
        decoders = types.ModuleType("torchcodec.decoders")
        decoders.AudioDecoder = type("AudioDecoder", (FFmpeg,), settings)
        monkeypatch.setitem(sys.modules, "torchcodec", types.ModuleType("torchcodec"))
        monkeypatch.setitem(sys.modules, "torchcodec.decoders", decoders)
        (tmp_path / f"a.{extension}").write_bytes(b"x")
        return tmp_path / f"a.{extension}"

    return make


@pytest.mark.parametrize(("extension", "duration"), [("m4a", 2.5), ("webm", None), ("mkv", None)])
def test_containers_are_decoded_by_blocks(extension: str, duration: float | None, ffmpeg: Callable[..., Path]) -> None:
    parts = list(stream_audio(ffmpeg(extension, duration=duration), 16000, block_seconds=1.0))
    expected = torchaudio_resample(FFmpeg.whole.mean(dim=0), 44100, 16000)
    torch.testing.assert_close(torch.cat(parts), expected, atol=1e-5, rtol=0)


def test_containers_without_sound_or_without_ffmpeg(ffmpeg: Callable[..., Path]) -> None:
    with pytest.raises(UnreadableAudio, match=r"a\.webm: not readable as audio \(.*No audio frames were decoded"):
        list(stream_audio(ffmpeg("webm", duration=None, whole=noise(2, 0)), 16000))
    with pytest.raises(UnreadableAudio, match=r"a\.m4a: \.m4a needs FFmpeg and torchcodec"):
        list(stream_audio(ffmpeg("m4a", duration=0), 16000))
