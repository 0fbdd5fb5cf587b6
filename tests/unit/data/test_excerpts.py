from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sslam_lightning.data.audio.read import UnreadableAudio, read_audio
from sslam_lightning.data.loading.dataset import RecordingDataset
from sslam_lightning.data.manifests.segments import Segment, cut, duration_seconds, make_excerpts


def test_cutting() -> None:
    assert cut("a", 2.5, 3.0) == [Segment("a")]
    assert cut("a", 3.0, 3.0) == [Segment("a")]
    assert cut("a", 6.0, 3.0) == [Segment("a", 0.0, 3.0), Segment("a", 3.0, 3.0)]
    assert cut("a", 7.5, 3.0) == [Segment("a", 0.0, 3.0), Segment("a", 3.0, 3.0), Segment("a", 4.5, 3.0)]
    assert len(cut("a", 6.0005, 3.0)) == 2  # less than a millisecond is no clip


def test_a_part_of_a_file_is_that_part(write_sound: Callable[..., Path]) -> None:
    path = write_sound("long.wav", seconds=2.0, rate_hz=8000, hertz=300)
    whole, rate_hz = read_audio(path)
    part, _ = read_audio(path, start_seconds=0.5)
    torch.testing.assert_close(part, whole[4000:])
    part, _ = read_audio(path, max_seconds=0.25, start_seconds=1.0)
    torch.testing.assert_close(part[:2000], whole[8000:10000])
    assert (rate_hz, duration_seconds(path)) == (8000, 2.0)
    with pytest.raises(UnreadableAudio, match=r"long\.wav: holds no samples"):
        read_audio(path, start_seconds=3.0)
    with pytest.raises(UnreadableAudio, match=r"gone\.wav: no such file"):
        duration_seconds(path.with_name("gone.wav"))


def test_excerpts_as_clips(tmp_path: Path, write_sound: Callable[..., Path]) -> None:
    path = write_sound("long.wav", seconds=1.0, rate_hz=16000, hertz=300)
    whole, _ = read_audio(path)
    rows = [Segment("long.wav", 0.25, 0.5), Segment("long.wav", 0.75), Segment("long.wav", 0.9, 0.5)]
    excerpts = make_excerpts(str(tmp_path), rows, [[0], [], [0]], ("tone",))
    clips = RecordingDataset(excerpts)
    assert [len(clips[i].waveform) for i in range(3)] == [8000, 4000, 1600]
    torch.testing.assert_close(clips[0].waveform, whole[4000:12000])
    assert clips[0].labels.tolist() == [1]
    assert [len(RecordingDataset(excerpts, max_clip_seconds=0.2)[i].waveform) for i in range(3)] == [3200, 3200, 1600]
