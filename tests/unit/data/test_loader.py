from __future__ import annotations

from itertools import chain
from typing import Any

import pytest
import torch

from sslam_lightning.data.loading.dataset import ClipDataset, Key
from sslam_lightning.data.loading.loader import ClipLoader
from sslam_lightning.data.loading.sampler import EpochSampler
from sslam_lightning.types import Clip

CLIPS = 12


class Tones(ClipDataset):
    """Clips of one sample each."""

    def __len__(self) -> int:
        return CLIPS

    def name(self, index: int) -> str:
        return f"tone{index}.wav"

    def __getitem__(self, key: Key) -> Clip:
        index = key if isinstance(key, int) else key[1]
        return Clip(torch.ones(1), torch.zeros(0), index, self.name(index))


def make(num_workers: int = 0, shuffle: bool = False, **options: Any) -> ClipLoader:
    sampler = EpochSampler(CLIPS, 2, shuffle=shuffle)
    keep = {"persistent_workers": True} if num_workers else {}
    return ClipLoader(Tones(), sampler=sampler, batch_size=2, num_workers=num_workers, **keep, **options)


def indices(loader: ClipLoader) -> list[list[int]]:
    return [batch.clip_index.tolist() for batch in loader]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_what_workers_have_read_ahead_does_not_count(num_workers: int) -> None:
    loader, again = make(num_workers, shuffle=True), make(shuffle=True)
    loader.sampler.set_epoch(3)
    batches = iter(loader)
    had = [next(batches).clip_index.tolist() for _ in range(2)]
    state = loader.state_dict()
    assert (state["epoch"], state["clips"], state["over"]) == (3, 4, False)
    assert loader.state_dict(repeat=1)["clips"] == 2
    rest = [batch.clip_index.tolist() for batch in batches]
    again.load_state_dict(state)
    assert again.state_dict() == state
    assert again.batches_behind() == 2
    assert indices(again) == rest
    assert sorted(chain.from_iterable(had + rest)) == list(range(CLIPS))
    assert again.state_dict()["over"]
    again.sampler.set_epoch(4)
    assert again.state_dict()["clips"] == 0
    assert len(indices(again)) == 6  # only the epoch that was broken off is short


def test_nothing_is_read_before_the_first_batch_is_asked_for() -> None:
    loader = make()
    batches = iter(loader)
    loader.sampler.set_epoch(1)  # Lightning tells the epoch behind ``iter``
    next(batches)
    assert loader.state_dict()["epoch"] == 1
