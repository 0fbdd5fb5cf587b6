"""What happens to a run when something goes wrong in it."""

from __future__ import annotations

import csv

import pytest
import torch
from tiny import copy_of, ema_callback, pretrain, soundscapes, trainer

from sslam_lightning.schedules import warmup_cosine
from sslam_lightning.training.callbacks import LossGuard
from sslam_lightning.training.callbacks.loss_guard import NotFinite

LOST = {3, 4}  # batches of 12, two an update


class Lossy(LossGuard):
    """Spoils the loss of some batches on their way back."""

    def __init__(self, lost: set[int], max_skips_in_a_row: int) -> None:
        super().__init__(max_skips_in_a_row)
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
    assert runner.optimizers[0].param_groups[0]["lr"] == warmup_cosine(6, config.lr, 0.0, config.warmup_updates, 8)
    assert int(next(iter(runner.optimizers[0].state.values()))["step"]) == 6
    with (tmp_path / "not_finite_clips.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["update"] for row in rows] == ["2"] * 8 + ["3"] * 8
    assert all(row["clip"].startswith("synthetic/train/") for row in rows)


def test_too_many_lost_updates_end_the_run(tmp_path):
    runner = trainer(tmp_path, Lossy({4, 5, 6, 7}, 2), max_epochs=2)
    with (
        pytest.warns(UserWarning, match="is skipped"),
        pytest.raises(NotFinite, match="in update 7 and the 2 before it; the clips are listed in .*not_finite_clips.csv"),
    ):
        runner.fit(pretrain(), soundscapes(24, batch_size=4))
    assert ema_callback(runner).updates == 4
