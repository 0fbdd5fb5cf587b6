from __future__ import annotations

import os
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.demos.boring_classes import BoringModel

from sslam_lightning.training.callbacks import RunCheckpoint

BATCHES = 8  # an epoch
SCORES = (0.5, 0.9, 0.7, 0.6, 0.95)  # of the validations: at first the second is the best


class Scored(BoringModel):
    """Logs scripted scores, one an epoch; raises where it is told to."""

    def __init__(self, scores: tuple[float, ...] = SCORES, raises_at: int = -1) -> None:
        super().__init__()
        self.scores, self.raises_at = scores, raises_at

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if self.trainer.global_step == self.raises_at:
            raise OSError("the machine is gone")
        return super().training_step(batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        self.log("val/score", self.scores[self.current_epoch])


def fit(folder: Path, *callbacks: pl.Callback, ckpt_path: Path | None = None, **settings: Any) -> pl.Trainer:
    scripted = {name: settings.pop(name) for name in ("scores", "raises_at") if name in settings}
    settings = {"max_epochs": 4, "limit_train_batches": BATCHES, "limit_val_batches": 1, **settings}
    trainer = pl.Trainer(
        default_root_dir=folder,
        callbacks=list(callbacks),
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **settings,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(Scored(**scripted), ckpt_path=ckpt_path)
    return trainer


def best_of(folder: Path, **settings: Any) -> RunCheckpoint:
    return RunCheckpoint(folder, monitor="val/score", mode="max", **settings)


def steps(folder: Path) -> dict[str, int]:
    return {p.name: int(torch.load(p, weights_only=True)["global_step"]) for p in sorted(folder.glob("*.ckpt"))}


def test_every_save_rewrites_last(tmp_path: Path) -> None:
    """U1: the score peaks in the second of four epochs."""
    keep = best_of(tmp_path)
    trainer = fit(tmp_path, keep)
    assert steps(tmp_path) == {"best.ckpt": 2 * BATCHES, "last.ckpt": 4 * BATCHES}
    assert trainer.checkpoint_callback is keep
    assert (keep.best_model_path, keep.last_model_path) == (f"{tmp_path}/best.ckpt", f"{tmp_path}/last.ckpt")


def test_the_end_of_a_run_is_saved_between_two_saves(tmp_path: Path) -> None:
    """U1: the newest state, always."""
    fit(tmp_path, RunCheckpoint(tmp_path, every_n_train_steps=3), max_epochs=-1, max_steps=10)
    assert steps(tmp_path) == {"epoch=1-step=9.ckpt": 9, "last.ckpt": 10}


@pytest.mark.parametrize("raises_at", [1, 7, 13, 23])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_crash_loses_no_more_than_the_interval(accumulate: int, raises_at: int, tmp_path: Path) -> None:
    """U1: saves do not wait for the validation at the end of an epoch, nor for a better score."""
    settings = {"accumulate_grad_batches": accumulate, "limit_train_batches": BATCHES * accumulate}
    with pytest.raises(OSError, match="the machine is gone"):
        fit(tmp_path, best_of(tmp_path, every_n_train_steps=3), raises_at=raises_at, **settings)
    saved = steps(tmp_path)
    assert saved.get("last.ckpt", 0) == raises_at - raises_at % 3
    assert saved.get("best.ckpt", 0) == {1: 0, 7: 0, 13: 8, 23: 16}[raises_at]


def test_a_save_that_is_due_by_the_clock_waits_for_the_end_of_the_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    behind = []
    save = pl.Trainer.save_checkpoint

    def noted(self: pl.Trainer, *args: Any, **settings: Any) -> None:
        behind.append(self.fit_loop.epoch_loop.batch_idx + 1)
        save(self, *args, **settings)

    monkeypatch.setattr(pl.Trainer, "save_checkpoint", noted)
    keep = RunCheckpoint(tmp_path, save_top_k=0, train_time_interval=timedelta(microseconds=1))
    fit(tmp_path, keep, max_epochs=1, accumulate_grad_batches=3)
    assert behind[:3] == [3, 6, 8]  # eight batches: the last step has two


def test_last_is_written_once_a_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    save = pl.Trainer.save_checkpoint

    def noted(self: pl.Trainer, path: Any, *args: Any, **settings: Any) -> None:
        written.append((os.path.basename(path), self.global_step))
        save(self, path, *args, **settings)

    monkeypatch.setattr(pl.Trainer, "save_checkpoint", noted)
    fit(tmp_path, best_of(tmp_path), max_epochs=3)
    assert written == [("best.ckpt", 8), ("last.ckpt", 8), ("best.ckpt", 16), ("last.ckpt", 16), ("last.ckpt", 24)]


def test_a_resumed_run_replaces_its_files_and_knows_its_best(tmp_path: Path) -> None:
    """U1: also where its folder was moved; in another folder it begins with the scores of its own."""
    first = tmp_path / "first"
    fit(first, best_of(first), max_epochs=3)
    moved = first.rename(tmp_path / "moved")
    fit(moved, best_of(moved), max_epochs=4, ckpt_path=moved / "last.ckpt")
    assert steps(moved) == {"best.ckpt": 16, "last.ckpt": 32}
    other = tmp_path / "other"
    fit(other, best_of(other), max_epochs=4, ckpt_path=moved / "best.ckpt", scores=(0, 0, 0.3, 0.2))
    assert steps(other) == {"best.ckpt": 24, "last.ckpt": 32}
    fit(moved, best_of(moved), max_epochs=5, ckpt_path=moved / "last.ckpt")  # now it is better
    assert steps(moved) == {"best.ckpt": 40, "last.ckpt": 40}


def test_a_step_that_comes_again_takes_its_file_again(tmp_path: Path) -> None:
    """As after a kill between two writes of one save, which the checkpoint does not know of."""
    fit(tmp_path, RunCheckpoint(tmp_path), max_epochs=1)
    torch.save({}, tmp_path / "epoch=1-step=16.ckpt")
    fit(tmp_path, RunCheckpoint(tmp_path), max_epochs=3, ckpt_path=tmp_path / "last.ckpt")
    assert steps(tmp_path) == {"epoch=2-step=24.ckpt": 24, "last.ckpt": 24}


def test_several_are_kept_by_their_score_under_names_of_their_own(tmp_path: Path) -> None:
    keep = best_of(tmp_path, save_top_k=2, filename="{epoch}-{step}")
    fit(tmp_path, keep)
    expected = {"best.ckpt": 16, "epoch=1-step=16.ckpt": 16, "epoch=2-step=24.ckpt": 24, "last.ckpt": 32}
    assert steps(tmp_path) == expected


def test_a_counter_is_no_score(tmp_path: Path) -> None:
    fit(tmp_path, RunCheckpoint(tmp_path, "newest-{step}", monitor="step", mode="max", save_top_k=2))
    assert steps(tmp_path) == {"last.ckpt": 32, "newest-step=24.ckpt": 24, "newest-step=32.ckpt": 32}


def test_an_exception_is_saved_as_last_and_never_as_best(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="the machine is gone"):
        fit(tmp_path, best_of(tmp_path, save_on_exception=True), raises_at=20)
    assert steps(tmp_path) == {"best.ckpt": 16, "last.ckpt": 20}


def test_without_validation_there_is_no_best(tmp_path: Path) -> None:
    fit(tmp_path, best_of(tmp_path), max_epochs=2, limit_val_batches=0)
    assert steps(tmp_path) == {"last.ckpt": 16}


def test_without_last(tmp_path: Path) -> None:
    fit(tmp_path, best_of(tmp_path, save_last=False, filename="{epoch}"))
    assert steps(tmp_path) == {"best.ckpt": 16, "epoch=1.ckpt": 16}


def test_a_link_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"save_last must be true or false, got 'link': last\.ckpt is always a file"):
        RunCheckpoint(tmp_path, save_last="link")


def test_the_best_has_the_weights_that_were_validated(tmp_path: Path) -> None:
    """U1: where saves are due by steps, most of them find the score of an earlier validation."""
    fit(tmp_path, best_of(tmp_path, every_n_train_steps=1))
    assert steps(tmp_path) == {"best.ckpt": 16, "last.ckpt": 32}


def test_a_score_of_training_is_compared_at_every_save(tmp_path: Path) -> None:
    class LogStep(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
            pl_module.log("train/score", -abs(trainer.global_step - 5.0))

    fit(tmp_path, LogStep(), RunCheckpoint(tmp_path, monitor="train/score", mode="max", every_n_train_steps=1))
    assert steps(tmp_path) == {"best.ckpt": 5, "last.ckpt": 32}


def test_a_run_with_nothing_left_to_train_writes_nothing(tmp_path: Path) -> None:
    fit(tmp_path, best_of(tmp_path))
    fit(tmp_path, best_of(tmp_path), max_epochs=2, ckpt_path=tmp_path / "best.ckpt")
    assert steps(tmp_path) == {"best.ckpt": 2 * BATCHES, "last.ckpt": 4 * BATCHES}


def test_nan_is_no_score(tmp_path: Path) -> None:
    """U1: the best is that of the best score; a run that has none keeps its last state alone."""
    nan = float("nan")
    fit(tmp_path / "without", best_of(tmp_path / "without"), scores=(nan,) * 4)
    assert steps(tmp_path / "without") == {"last.ckpt": 4 * BATCHES}
    fit(tmp_path / "with", best_of(tmp_path / "with"), scores=(nan, 0.1, nan, 0.05))
    assert steps(tmp_path / "with") == {"best.ckpt": 2 * BATCHES, "last.ckpt": 4 * BATCHES}


@pytest.mark.parametrize("every_n_epochs", [1, 2])
def test_scores_of_the_middle_of_an_epoch_where_saves_are_due_at_its_end(every_n_epochs: int, tmp_path: Path) -> None:
    """U1: the weights that were validated are the best, not those at the end of the epoch."""
    keep = best_of(tmp_path, save_on_train_epoch_end=True, every_n_epochs=every_n_epochs)
    fit(tmp_path, keep, val_check_interval=5)
    assert steps(tmp_path) == {"best.ckpt": BATCHES + 5, "last.ckpt": 4 * BATCHES}
