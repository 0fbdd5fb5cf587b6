from __future__ import annotations

import os
import signal
import time
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch

from sslam_lightning.data.dataset import ClipDataset, Key
from sslam_lightning.data.loader import ClipLoader, LostWorker
from sslam_lightning.data.sampler import EpochSampler
from sslam_lightning.types import Clip

CLIPS, FATAL = 12, 5


class Tones(ClipDataset):
    """Clips of one sample each; one of them does something terrible to whoever reads it."""

    def __init__(self, terrible: Any = None) -> None:
        self.terrible = terrible

    def __len__(self) -> int:
        return CLIPS

    def name(self, index: int) -> str:
        return f"tone{index}.wav"

    def __getitem__(self, key: Key) -> Clip:
        index = key if isinstance(key, int) else key[1]
        if index == FATAL and self.terrible is not None:
            self.terrible()
        return Clip(torch.ones(1), torch.zeros(0), index, self.name(index))


def make(num_workers: int = 0, terrible: Any = None, shuffle: bool = False, **options: Any) -> ClipLoader:
    sampler = EpochSampler(CLIPS, 2, shuffle=shuffle)
    keep = {"persistent_workers": True} if num_workers else {}
    return ClipLoader(Tones(terrible), sampler=sampler, batch_size=2, num_workers=num_workers, **keep, **options)


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
    assert loader.state_dict(broken_off=True)["clips"] == 2
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


def _die() -> None:
    os._exit(7)


def _be_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _hang() -> None:
    time.sleep(3600)


@pytest.mark.parametrize(
    ("terrible", "options", "told"),
    [
        (_die, {}, r"a data worker died \(exit code 7\) while reading tone5\.wav; data\.num_workers: 0 reads in the main"),
        (_be_killed, {}, r"a data worker died \(killed by signal 9\) while reading tone5\.wav; "),
        (_hang, {"worker_timeout_seconds": 1}, r"a data worker gave nothing for 1 s while reading tone5\.wav; "),
    ],
    ids=["dies", "is killed", "hangs"],
)
def test_a_lost_worker_is_named_with_its_file(terrible: Any, options: dict[str, Any], told: str) -> None:
    with pytest.raises(RuntimeError, match=told) as error:
        indices(make(2, terrible, **options))
    assert error.value.for_users  # type: ignore[attr-defined]
    assert len(str(error.value).splitlines()) == 1


def test_workers_that_the_loader_ends_are_not_told_of_as_lost() -> None:
    """PyTorch raises, wherever the main process is, when a worker is killed; that would replace the line with the file."""
    loader = make(2, _hang, worker_timeout_seconds=1)
    batches = iter(loader)
    next(batches)
    workers = loader._iterator._workers  # type: ignore[union-attr]
    with pytest.raises(LostWorker, match=r"gave nothing for 1 s while reading tone5\.wav"):
        list(batches)
    for _ in range(50):
        time.sleep(0.01)  # here it was raised
    assert [worker.exitcode for worker in workers] == [-signal.SIGKILL] * 2
    with pytest.raises(LostWorker, match=r"gave nothing for 1 s while reading tone5\.wav"):
        indices(loader)  # with new workers


def test_a_loader_answers_for_its_own_workers_alone() -> None:
    loader, other = make(1), make(1)
    for each in (loader, other):
        next(iter(each))
    lost = RuntimeError(f"DataLoader worker (pid(s) {other._iterator._workers[0].pid}) exited unexpectedly")  # type: ignore[union-attr]
    loader.explain(lost)
    assert str(lost).startswith("DataLoader worker")
    other.explain(lost)
    assert str(lost).startswith("a data worker gave nothing")
    assert list(chain.from_iterable(indices(loader))) == list(range(CLIPS))


def test_an_iteration_that_was_broken_off_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sslam_lightning.data.loader._LOOK_SECONDS", 0.1)
    loader = make(1, lambda: time.sleep(0.5))
    for batch in loader:
        assert batch.clip_index.tolist() == [0, 1]
        break  # the worker reads on
    assert list(chain.from_iterable(indices(loader))) == list(range(CLIPS))


def test_a_slow_worker_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sslam_lightning.data.loader._LOOK_SECONDS", 0.1)
    loader = make(1, lambda: time.sleep(0.35))  # three looks in vain
    assert loader.timeout == 0.1
    assert list(chain.from_iterable(indices(loader))) == list(range(CLIPS))


def test_a_worker_that_dies_between_two_batches_is_named_too(tmp_path: Path) -> None:
    """PyTorch then raises wherever the main process is; whoever catches that asks the loader."""
    loader = make(1, _die)
    with pytest.raises(RuntimeError) as error:  # noqa: PT012
        next(batches := iter(loader))
        for _ in range(300):
            time.sleep(0.01)  # where the training step would be
        next(batches)
    loader.explain(error.value)
    assert str(error.value).startswith("a data worker died (exit code 7) while reading tone5.wav")


def test_other_errors_are_left_alone() -> None:
    loader, error = make(), RuntimeError("out of memory")
    loader.explain(error)
    assert str(error) == "out of memory"
