"""What happens to a run when something goes wrong in it."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from processes import run_together
from tiny import KeepEveryBatch, copy_of, ema_callback, pretrain, soundscapes, trainer

from sslam_lightning.schedules import warmup_cosine
from sslam_lightning.training.callbacks import NonFiniteGuard
from sslam_lightning.training.callbacks.non_finite_guard import NotFinite

LOST = {3, 4}  # batches of 12, two an update


class Lossy(NonFiniteGuard):
    """Spoils the loss of some batches on their way back."""

    def __init__(self, lost: set[int], max_consecutive_skips: int) -> None:
        super().__init__(max_consecutive_skips)
        self.lost, self.batches, self.students = lost, 0, []

    def on_before_backward(self, trainer, pl_module, loss) -> None:
        if self.batches in self.lost:
            loss.register_hook(lambda gradient: gradient * float("nan"))
        self.batches += 1

    def on_train_batch_end(self, trainer, pl_module, *rest) -> None:
        super().on_train_batch_end(trainer, pl_module, *rest)
        self.students.append(copy_of(pl_module.student))


def test_a_lost_update_is_skipped_and_counts_for_nothing(tmp_path):
    module, guard = pretrain(), Lossy(LOST, 2)
    runner = trainer(tmp_path, guard, max_epochs=4, accumulate_grad_batches=2, gradient_clip_val=4.0)
    with pytest.warns(UserWarning, match="update 3 is skipped, it is not finite"):
        runner.fit(module, soundscapes(16, batch_size=4))
    assert runner.global_step == 8
    assert guard.skipped == 2
    for batch in range(4, 6):  # updates 2 and 3 are those of batches 2 to 5
        assert all(torch.equal(guard.students[batch][name], value) for name, value in guard.students[1].items())
    assert not all(torch.equal(guard.students[7][name], value) for name, value in guard.students[1].items())
    assert all(value.isfinite().all() for value in module.state_dict().values())
    assert ema_callback(runner).updates == 6
    config = module.optimizer_config
    assert runner.optimizers[0].param_groups[0]["lr"] == warmup_cosine(6, config.lr, 0.0, config.warmup_steps, 8)
    assert int(next(iter(runner.optimizers[0].state.values()))["step"]) == 6
    rows = _rows(tmp_path / "not_finite_clips.csv")
    assert [row["update"] for row in rows] == ["2"] * 8 + ["3"] * 8
    assert all(row["clip"].startswith("synthetic/train/") for row in rows)


def test_too_many_lost_updates_end_the_run(tmp_path):
    runner = trainer(tmp_path, Lossy({4, 5, 6, 7}, 2), max_epochs=2)
    with (
        pytest.warns(UserWarning, match="is skipped"),
        pytest.raises(NotFinite, match=r"in update 7 and the 2 before it; the clips are listed in .*not_finite_clips\.csv"),
    ):
        runner.fit(pretrain(), soundscapes(24, batch_size=4))
    assert ema_callback(runner).updates == 4


class LossyPlaces(NonFiniteGuard):
    """Spoils the loss of the same batches in every run: those of some clips, say."""

    def __init__(self, lost: set[tuple[int, int]]) -> None:
        super().__init__(max_consecutive_skips=2)
        self.lost = lost

    @property
    def state_key(self) -> str:
        return NonFiniteGuard.__qualname__

    def on_before_backward(self, trainer, pl_module, loss) -> None:
        if (trainer.current_epoch, trainer.fit_loop.epoch_loop.batch_idx) in self.lost:
            loss.register_hook(lambda gradient: gradient * float("nan"))


@pytest.mark.parametrize("accumulated", [1, 2])
@pytest.mark.filterwarnings("ignore:update .* is skipped")
def test_a_run_resumed_behind_skipped_updates_goes_on_as_one_that_was_not_stopped(accumulated, tmp_path):
    """Checkpoints fall right behind lost updates and between two of them; the guard forgets nothing."""
    lost = {(0, 1), (0, 2), (1, 3), (2, 2)}
    settings = {"max_epochs": 3, "accumulate_grad_batches": accumulated}

    def fit(folder: Path, *callbacks: pl.Callback, **resumed: Any) -> tuple[NonFiniteGuard, Any]:
        guard, module = LossyPlaces(lost), pretrain()
        runner = trainer(folder, guard, *callbacks, **settings)
        runner.fit(module, soundscapes(16, batch_size=4), **resumed)
        return guard, {**copy_of(module), "updates": ema_callback(runner).updates}

    guard, expected = fit(tmp_path, KeepEveryBatch(tmp_path))
    assert guard.skipped == len(lost)
    for place in (2, 3, 5, 8, 11):
        again, state = fit(tmp_path / "b", ckpt_path=tmp_path / f"batch{place}.ckpt", weights_only=True)
        assert again.skipped == guard.skipped, place
        changed = [
            name
            for name, value in expected.items()
            if not torch.equal(torch.as_tensor(state[name]), torch.as_tensor(value))
        ]
        assert changed == [], place


@pytest.mark.filterwarnings("ignore:update .* is skipped")
def test_a_run_does_not_end_well_with_lost_weights(tmp_path):
    class Spoil(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
            with torch.no_grad():
                pl_module.student.cls_token.fill_(float("nan"))

    with pytest.raises(NotFinite, match=r"student\.cls_token became NaN or infinite before update 3"):
        trainer(tmp_path, NonFiniteGuard(5), Spoil()).fit(pretrain(), soundscapes(12, batch_size=4))


@pytest.mark.filterwarnings("ignore:update .* is skipped")
def test_too_many_in_a_row_end_a_resumed_run_at_the_same_update(tmp_path):
    lost = {(0, batch) for batch in (2, 3, 4)}
    for place in (None, 2, 3, 4):
        resumed = {} if place is None else {"ckpt_path": tmp_path / f"batch{place}.ckpt", "weights_only": True}
        keep = [KeepEveryBatch(tmp_path)] if place is None else []
        with pytest.raises(NotFinite, match="in update 5 and the 2 before it"):
            trainer(tmp_path / "b", LossyPlaces(lost), *keep).fit(pretrain(), soundscapes(24, batch_size=4), **resumed)


# Several processes ---------------------------------------------------------------------------------------------------


def test_an_update_that_one_rank_loses_is_skipped_by_all(tmp_path):
    run_together("trouble_job.py", tmp_path)
    ranks = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert [(rank["updates"], rank["step"]) for rank in ranks] == [(5, 6), (5, 6)]
    assert all(torch.equal(ranks[1]["state"][name], value) for name, value in ranks[0]["state"].items())
    assert all(value.isfinite().all() for value in ranks[0]["state"].values())
    listed = [_rows(tmp_path / f"not_finite_clips{rank}.csv") for rank in ("", "_rank1")]
    assert [[row["update"] for row in rows] for rows in listed] == [["3", "3"], ["3", "3"]]
    assert not {row["clip"] for row in listed[0]} & {row["clip"] for row in listed[1]}


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))
