from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sslam_lightning.data.loading.dataset import BrokenClip, RecordingDataset
from sslam_lightning.data.manifests.recordings import make_recordings
from sslam_lightning.types import Clip


def test_clip_by_place_and_by_epoch_and_place(tmp_path: Path, write_sound: Callable[..., Path]) -> None:
    for i in range(2):
        write_sound(f"{i}.wav", seconds=0.2, rate_hz=8000, hertz=300 * (i + 1))
    dataset = RecordingDataset(make_recordings(str(tmp_path), ["0.wav", "1.wav"], [[1], [0]], ["x", "y"]), 16000)
    clip = dataset[1]
    assert isinstance(clip, Clip)
    assert len(dataset) == 2
    assert (clip.clip_index, clip.name, clip.labels.tolist()) == (1, "1.wav", [1.0, 0.0])
    assert len(clip.waveform) == 3200  # 0.2 s at the rate asked for
    assert torch.fft.rfft(clip.waveform).abs().argmax() == 120  # still 600 Hz
    again = dataset[(7, 1)]
    assert isinstance(again, Clip)
    assert torch.equal(again.waveform, clip.waveform)


@pytest.mark.parametrize("resampler", ["torchaudio", "soxr"])
def test_cut_is_the_start_of_the_whole(tmp_path: Path, write_sound: Callable[..., Path], resampler: str) -> None:
    if resampler == "soxr":
        pytest.importorskip("soxr")
    write_sound("long.wav", seconds=1.0, rate_hz=44100)
    recordings = make_recordings(str(tmp_path), ["long.wav"], [()], ())
    whole = RecordingDataset(recordings, resampler=resampler)[0]
    cut = RecordingDataset(recordings, resampler=resampler, max_clip_seconds=0.25)[0]
    assert isinstance(whole, Clip)
    assert isinstance(cut, Clip)
    assert len(cut.waveform) == 4000
    torch.testing.assert_close(cut.waveform, whole.waveform[:4000], rtol=0, atol=1e-5)


def test_a_broken_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"RIFF nonsense")
    broken = RecordingDataset(make_recordings(str(tmp_path), ["bad.wav"], [[0]], ["x"]))[(0, 0)]
    assert isinstance(broken, BrokenClip)
    assert broken.name == "bad.wav"
    assert str(tmp_path / "bad.wav") in broken.reason
    assert "not readable as audio" in broken.reason


def test_settings() -> None:
    recordings = make_recordings("", ["a.wav"], [()], ())
    with pytest.raises(ValueError, match="sample_rate_hz must be positive, got 0"):
        RecordingDataset(recordings, 0)
    with pytest.raises(ValueError, match="max_clip_seconds must leave at least one sample, got 0"):
        RecordingDataset(recordings, max_clip_seconds=0.0)
    with pytest.raises(ValueError, match="resampler must be one of"):
        RecordingDataset(recordings, resampler="ffmpeg")
