from __future__ import annotations

import torch

from sslam_lightning.data.loading.collate import collate
from sslam_lightning.data.loading.dataset import BrokenClip
from sslam_lightning.types import Clip


def clip(index: int, num_samples: int) -> Clip:
    return Clip(torch.full((num_samples,), float(index)), torch.eye(4)[index], index, f"{index}.wav")


def test_pads_behind_the_end() -> None:
    batch = collate([clip(1, 2), clip(3, 4), clip(2, 1)])
    assert batch.waveforms.tolist() == [[1, 1, 0, 0], [3, 3, 3, 3], [2, 0, 0, 0]]
    assert batch.lengths == [2, 4, 1]
    assert batch.clip_index.tolist() == [1, 3, 2]
    assert batch.names == ("1.wav", "3.wav", "2.wav")
    assert batch.labels.argmax(dim=1).tolist() == [1, 3, 2]
    assert batch.broken == ()


def test_a_broken_clip_takes_its_label_with_it() -> None:
    batch = collate([clip(0, 3), BrokenClip("bad.wav", "holds no samples"), clip(2, 3), clip(3, 2)])
    assert batch.clip_index.tolist() == [0, 2, 3]
    assert batch.labels.argmax(dim=1).tolist() == [0, 2, 3]
    assert batch.waveforms[:, 0].tolist() == [0, 2, 3]
    assert batch.broken == (("bad.wav", "holds no samples"),)


def test_nothing_readable() -> None:
    clips = [BrokenClip(f"{i}.wav", f"{i}.wav: no such file") for i in range(5)]
    batch = collate(clips)
    assert batch.waveforms.shape[0] == len(batch.labels) == len(batch.clip_index) == len(batch.names) == 0
    assert batch.broken == tuple((f"{i}.wav", f"{i}.wav: no such file") for i in range(5))


def test_unlabeled() -> None:
    batch = collate([Clip(torch.ones(2), torch.zeros(0), i, str(i)) for i in range(3)])
    assert batch.labels.shape == (3, 0)


def test_short_clips_are_left_out_and_who_needs_more_is_told() -> None:
    batch = collate([clip(0, 3), clip(1, 2)], min_samples=3)
    assert batch.clip_index.tolist() == [0]
    assert batch.broken == (("1.wav", "1.wav: too short, 2 samples where the model needs 3"),)
    ((_, reason),) = collate([clip(1, 2), clip(0, 3)], 3, "data.min_clip_seconds").broken
    assert reason == "1.wav: too short, 2 samples where data.min_clip_seconds needs 3"
