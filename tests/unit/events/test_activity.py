from __future__ import annotations

import numpy as np
import torch

from sslam_lightning.events import FrameActivity, join_clips


def test_clips_are_joined_to_recordings() -> None:
    """Recording 0 is two clips of four frames, of which the second reaches back by one; recording 1 is one clip."""
    file_of, start_seconds = np.array([0, 0, 1]), np.array([0.0, 0.3, 0.0])
    active = torch.zeros(3, 4, 2, dtype=torch.bool)
    active[0, 1, 0] = active[0, 3, 1] = True
    active[1, 0, 0] = active[1, 3, 1] = True
    active[2, 0, 0] = active[2, 3, 0] = True  # the last frame of this one is padding
    seen = FrameActivity()
    seen.update(torch.tensor([2, 0]), torch.tensor([3, 4]), active[[2, 0]])
    seen.update(torch.tensor([1]), torch.tensor([4]), active[1:2])
    joined = join_clips(seen.compute(), file_of, start_seconds, 0.1, 2)
    assert {file: roll.T.int().tolist() for file, roll in joined.items()} == {
        0: [[0, 1, 0, 1, 0, 0, 0], [0, 0, 0, 1, 0, 0, 1]],
        1: [[1, 0, 0], [0, 0, 0]],
    }


def test_recordings_that_were_not_seen_whole_are_left_out() -> None:
    seen = FrameActivity()
    seen.update(torch.tensor([0]), torch.tensor([2]), torch.ones(1, 2, 1).bool())
    assert join_clips(seen.compute(), np.array([0, 0, 1]), np.array([0.0, 1.0, 0.0]), 0.5, 1) == {}
    seen.update(torch.tensor([2]), torch.tensor([2]), torch.zeros(1, 2, 1).bool())
    assert list(join_clips(seen.compute(), np.array([0, 0, 1]), np.array([0.0, 1.0, 0.0]), 0.5, 1)) == [1]


def test_nothing_was_seen() -> None:
    seen = FrameActivity()
    assert [tuple(part.shape) for part in seen.compute()] == [(0, 2), (0, 3)]
    assert join_clips(seen.compute(), np.array([0]), np.array([0.0]), 0.1, 3) == {}
