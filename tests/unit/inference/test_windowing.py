"""Where recordings are cut, and that what comes out has every frame once."""

from __future__ import annotations

import pytest
import torch

from sslam_lightning.features import LogMels, count_frames
from sslam_lightning.inference.windowing import Framing, OverlapAdd, Windows

FEATURES = LogMels(num_frames=None)


def cut(num_samples: int, windows: Windows, block: int = 5000) -> list[tuple[int, torch.Tensor]]:
    whole = torch.arange(num_samples, dtype=torch.float32)[None]
    return [
        (piece.start_frame, piece.content[0])
        for piece in windows.cut(iter(whole.split(block, dim=1)), Framing.of(FEATURES))
    ]


def test_windows_are_whole_patches() -> None:
    assert Windows.of(120, 10.24, 16) == Windows(12000, 1024)
    assert Windows.of(10.3, 2.6, 16) == Windows(1024, 256)
    for window, overlap in ((0.05, 0), (1.0, 0.6), (1.0, -0.2)):
        with pytest.raises(ValueError, match=r"a window must have at least 0.16 s and overlap the next by at most half"):
            Windows.of(window, overlap, 16)


@pytest.mark.parametrize("num_frames", [16, 63, 64])
def test_what_fits_is_one_window(num_frames: int) -> None:
    num_samples = 400 + (num_frames - 1) * 160 + 159
    ((start, waveform),) = cut(num_samples, Windows(64, 16))
    assert start == 0
    assert torch.equal(waveform, torch.arange(num_samples, dtype=torch.float32))


def test_shorter_than_a_patch_gets_silence() -> None:
    ((_, waveform),) = cut(100, Windows(64, 16))
    assert len(waveform) == 2800
    assert torch.equal(waveform[:100], torch.arange(100, dtype=torch.float32))
    assert not waveform[100:].any()


@pytest.mark.parametrize("num_frames", [65, 80, 96, 112, 113, 200, 1000])
@pytest.mark.parametrize("overlap", [0, 16, 32])
@pytest.mark.parametrize("block", [333, 1_000_000])
def test_windows_cover_a_recording(num_frames: int, overlap: int, block: int) -> None:
    num_samples = 400 + (num_frames - 1) * 160 + 7
    pieces = cut(num_samples, Windows(64, overlap), block)
    covered = torch.zeros(num_frames, dtype=torch.bool)
    for start, waveform in pieces:
        assert start % 16 == 0
        assert waveform[0] == start * 160  # the samples are those of the frames
        frames = count_frames(len(waveform))
        assert 48 < frames <= 64, "the last window is as long as the others, to the patch"
        covered[start : start + frames] = True
    assert covered.all()
    assert [start for start, _ in pieces[:-1]] == list(range(0, (len(pieces) - 1) * (64 - overlap), 64 - overlap))
    last, waveform = pieces[-1]
    assert last + count_frames(len(waveform)) == num_frames


def test_joined_rows_are_every_row_once() -> None:
    """Rows that tell their place come out in order, whatever the overlaps."""
    place = torch.arange(20.0)[:, None]
    for spans in ([(0, 8), (6, 14), (12, 20)], [(0, 20)], [(0, 8), (8, 16), (12, 20)], [(0, 8), (6, 14), (7, 20)]):
        joiner = OverlapAdd()
        parts = [joiner.push(start, place[start:stop]) for start, stop in spans]
        torch.testing.assert_close(torch.cat([*parts, joiner.finish()]), place)


def test_windows_that_disagree_are_blended() -> None:
    joiner = OverlapAdd()
    first = joiner.push(0, torch.zeros(6, 1, 2))
    second = joiner.push(3, torch.full((6, 1, 2), 4.0))
    joined = torch.cat([first, second, joiner.finish()])
    assert joined[:, 0, 0].tolist() == [0, 0, 0, 1, 2, 3, 4, 4, 4]  # a quarter, a half, three quarters of the way
    assert joined.shape == (9, 1, 2)
