"""A run that dies between any two batches and is resumed equals the uninterrupted one, bit for bit on the CPU."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers.logger import DummyLogger
from tiny import Clips, Diary, KeepEveryBatch, ema_callback, finetune, pretrain, soundscapes, trainer

from sslam_lightning import __version__
from sslam_lightning.augment import Mixup, SpecAugment
from sslam_lightning.data import EpochSampler
from sslam_lightning.training.run.optimizers import OptimizerConfig

EPOCHS, BATCHES, CLIPS = 3, 4, 15  # the last batch of every epoch is filled up

RUNS: dict[str, tuple[Callable[[], pl.LightningModule], dict[str, Any], dict[str, Any]]] = {
    "stage 1": (lambda: pretrain("stage 1"), {}, {}),
    "stage 2, dropping": (lambda: pretrain("stage 2", dropping=True), {}, {"accumulate_grad_batches": 3}),
    "dino": (lambda: pretrain("dino"), {}, {"accumulate_grad_batches": 2}),
    "stage 1, dropping, 2 workers": (lambda: pretrain(dropping=True), {"num_workers": 2}, {"gradient_clip_val": 4.0}),
    "fine-tuning": (
        lambda: finetune(spec_augment=SpecAugment(), mixup=Mixup(alpha=0.8), noise_and_roll=True),
        {"num_val": 6},
        {"accumulate_grad_batches": 2},
    ),
}
PLACES = (1, 4, 5, 7, 10, 12)  # batches that lie behind: one, an epoch, one more, some in the middle, all


class Rows(DummyLogger):
    """What a logger is told, by step."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, metrics, step=None) -> None:
        timeless = {name: value for name, value in metrics.items() if name != "perf/clips_per_second"}
        if timeless:
            self.rows.append((step, timeless))

    def behind(self, step: int) -> list[tuple[int, dict[str, float]]]:
        return [row for row in self.rows if row[0] >= step]


class Validations(pl.Callback):
    def __init__(self) -> None:
        self.steps: list[tuple[int, int]] = []

    def on_validation_end(self, trainer, pl_module) -> None:
        self.steps.append((trainer.current_epoch, trainer.global_step))


def assert_equal(own: Any, other: Any, where: str) -> None:
    assert type(own) is type(other), where
    if isinstance(own, torch.Tensor):
        assert own.dtype == other.dtype, where
        assert torch.equal(own, other), f"{where} differs by {(own.double() - other.double()).abs().max()}"
    elif isinstance(own, dict):
        assert own.keys() == other.keys(), where
        for key in own:
            assert_equal(own[key], other[key], f"{where}.{key}")
    elif isinstance(own, (list, tuple)):
        assert len(own) == len(other), where
        for place, (left, right) in enumerate(zip(own, other, strict=True)):
            assert_equal(left, right, f"{where}[{place}]")
    else:
        assert own == other, where


def state_of(runner: pl.Trainer, path: Path) -> dict[str, Any]:
    """Everything that a checkpoint written now would go on with."""
    runner.save_checkpoint(path)
    content = torch.load(path, weights_only=True)
    kept = ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step", "train_progress")
    loops = content["loops"]["fit_loop"]
    loops["steps"] = loops["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]
    counted = ("epoch_progress", "epoch_loop.batch_progress", "steps")
    callbacks = {name: state for name, state in content["callbacks"].items() if name == "EMATeacher"}
    return {**{name: content[name] for name in kept}, **{name: loops[name] for name in counted}, **callbacks}


@pytest.mark.parametrize("name", list(RUNS))
def test_a_run_resumed_in_the_middle_of_an_epoch_equals_the_uninterrupted_one(name, tmp_path):
    build, data, settings = RUNS[name]
    settings = {"max_epochs": EPOCHS, **settings}
    data = {"num_train": CLIPS, **data}

    diary, rows, validations, module = Diary(), Rows(), Validations(), build()
    start = {k: v.clone() for k, v in module.state_dict().items()}
    whole = trainer(tmp_path, diary, validations, KeepEveryBatch(tmp_path), logger=rows, **settings)
    whole.fit(module, soundscapes(**data))
    accumulated = settings.get("accumulate_grad_batches", 1)
    batches = -(-BATCHES // accumulated) * accumulated  # the last update is filled up
    assert list(diary.losses) == [(epoch, batch) for epoch in range(EPOCHS) for batch in range(batches)]
    moved = [k for k, v in start.items() if not torch.equal(v, module.state_dict()[k])]
    assert len(moved) > 0.9 * len(start)  # else the comparison would prove little
    expected = state_of(whole, tmp_path / "end.ckpt")

    for place in PLACES:
        into_step = place % batches % accumulated  # batches that come again: a checkpoint stands between two steps
        behind = list(diary.losses)[place - into_step :]
        again, logged, repeated = Diary(), Rows(), Validations()
        resumed = trainer(tmp_path / "resumed", again, repeated, logger=logged, **settings)
        module = build()  # other initial weights, and nothing left of the dead process
        resumed.fit(module, soundscapes(**data), ckpt_path=tmp_path / f"batch{place}.ckpt", weights_only=True)
        assert again.losses == {where: diary.losses[where] for where in behind}, place
        assert_equal(state_of(resumed, tmp_path / "again.ckpt"), expected, f"from batch {place}")
        steps = torch.load(tmp_path / f"batch{place}.ckpt", weights_only=True)["global_step"]
        assert [row for row in logged.rows if row[0] >= steps] == rows.behind(steps), place
        due = (steps,) if place % batches == 0 else ()  # saved behind an epoch's last batch, and so before its validation
        assert repeated.steps == [v for v in validations.steps if v[1] > steps or v[1] in due]
        if name != "fine-tuning":
            assert ema_callback(resumed).updates == whole.global_step
            assert ema_callback(resumed).decay == ema_callback(whole).decay


def fit(folder: Path, *callbacks: pl.Callback, ckpt_path: Path | None = None, **settings: Any) -> tuple[Diary, Validations]:
    pl.seed_everything(3, verbose=False)
    diary, validations = Diary(), Validations()
    module = finetune(mixup=Mixup(alpha=0.8), optimizer=OptimizerConfig(lr=1e-3, max_steps=20))
    runner = trainer(folder, diary, validations, *callbacks, **settings)
    runner.fit(module, soundscapes(CLIPS, 6), ckpt_path=ckpt_path, weights_only=True)
    diary.students.append(module.state_dict())
    return diary, validations


@pytest.mark.parametrize("steps", [BATCHES, BATCHES + 2, 2 * BATCHES], ids=["epoch's end", "middle", "second epoch's end"])
@pytest.mark.parametrize("every", ["epoch", "step"])
def test_a_run_that_max_steps_ended_goes_on_as_if_it_had_not(steps, every, tmp_path):
    whole, validations = fit(tmp_path / "whole", max_epochs=-1, max_steps=11)
    frequency = {"every_n_epochs": 1} if every == "epoch" else {"every_n_train_steps": 1}
    first, done = fit(tmp_path, ModelCheckpoint(tmp_path, save_last=True, **frequency), max_epochs=-1, max_steps=steps)
    assert len(first.losses) == steps
    second, later = fit(tmp_path / "b", ckpt_path=tmp_path / "last.ckpt", max_epochs=-1, max_steps=11)
    assert second.losses == dict(list(whole.losses.items())[steps:])
    assert_equal(second.students[-1], whole.students[-1], "weights")
    # An epoch's last batch is saved before its validation, which so comes again; none is left out.
    repeated = [(steps // BATCHES - 1, steps)] if every == "step" and steps % BATCHES == 0 else []
    assert [*done.steps, *later.steps] == sorted([*validations.steps, *repeated])


@pytest.mark.parametrize(
    "interval", [{"val_check_interval": 3}, {"val_check_interval": 3, "check_val_every_n_epoch": None}]
)
def test_validation_in_the_middle_of_an_epoch(interval, tmp_path):
    """A checkpoint that waited for the validation goes on behind it; one that was written before it validates first."""
    behind = ModelCheckpoint(tmp_path / "behind", "{step}", monitor="val/loss", save_top_k=-1)
    before = ModelCheckpoint(tmp_path / "before", "{step}", save_top_k=-1, every_n_train_steps=1)
    whole, validations = fit(tmp_path, behind, before, max_epochs=2, **interval)
    assert [step for _, step in validations.steps] == ([3, 7] if len(interval) == 1 else [3, 6])
    for kept, repeated in (("behind", []), ("before", [(0, 3)])):
        diary, later = fit(tmp_path / kept / "b", ckpt_path=tmp_path / kept / "step=3.ckpt", max_epochs=2, **interval)
        assert diary.losses == dict(list(whole.losses.items())[3:])
        assert later.steps == [*repeated, *validations.steps[1:]]
        assert_equal(diary.students[-1], whole.students[-1], "weights")


def test_limited_epochs(tmp_path):
    """Epochs that the trainer cuts short end there in a resumed run as well."""
    whole, _ = fit(tmp_path, KeepEveryBatch(tmp_path), max_epochs=3, limit_train_batches=3)
    assert list(whole.losses) == [(epoch, batch) for epoch in range(3) for batch in range(3)]
    for place in (2, 3, 5):
        again, _ = fit(tmp_path / "b", ckpt_path=tmp_path / f"batch{place}.ckpt", max_epochs=3, limit_train_batches=3)
        assert again.losses == dict(list(whole.losses.items())[place:])


@pytest.mark.parametrize("batch_size", [2, 3, 8])
def test_another_batch_size_goes_on_with_the_clips_that_are_left(batch_size, tmp_path):
    trainer(tmp_path, KeepEveryBatch(tmp_path)).fit(finetune(), soundscapes(24))
    clips = Clips()
    resumed = trainer(tmp_path / "b", clips, max_epochs=2)
    resumed.fit(finetune(), soundscapes(24, batch_size=batch_size), ckpt_path=tmp_path / "batch2.ckpt", weights_only=True)
    order = EpochSampler(24, batch_size).order
    expected = [part.tolist() for epoch, start in ((0, 8), (1, 0)) for part in order(epoch)[start:].split(batch_size)]
    filled = order(0)[: batch_size - len(expected[-(-16 // batch_size) - 1])].tolist()  # the last batch of the first epoch
    expected[-(-16 // batch_size) - 1] += filled
    assert clips.seen == expected
    assert resumed.current_epoch == 2


@pytest.mark.parametrize(
    ("settings", "told"), [({"num_train": 25}, r"clips 24 \(now 25\)"), ({"seed": 3}, r"seed 0 \(now 3\)")]
)
def test_other_data_in_the_middle_of_an_epoch_are_refused(settings, told, tmp_path):
    trainer(tmp_path, KeepEveryBatch(tmp_path)).fit(finetune(), soundscapes(24))
    data = soundscapes(**{"num_train": 24, **settings})
    with pytest.raises(
        ValueError, match=f"in the middle of epoch 0, whose order was made with {told}: go on with the same"
    ):
        trainer(tmp_path / "b", max_epochs=2).fit(finetune(), data, ckpt_path=tmp_path / "batch2.ckpt", weights_only=True)
    clips = Clips()  # between two epochs there is nothing to go on with
    trainer(tmp_path / "b", clips, max_epochs=2).fit(
        finetune(), data, ckpt_path=tmp_path / "batch6.ckpt", weights_only=True
    )
    assert len(clips.seen) == len(data.train_dataloader())


def test_another_version_other_settings_and_other_data_are_said(tmp_path, caplog):
    trainer(tmp_path, KeepEveryBatch(tmp_path)).fit(finetune(), soundscapes(24))
    path = tmp_path / "batch6.ckpt"
    content = torch.load(path, weights_only=True)
    assert content["package_version"] == __version__
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING, "sslam_lightning"):
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", module="lightning.*", message="(?!the run goes on)")
        trainer(tmp_path / "b").fit(finetune(), soundscapes(24), ckpt_path=path, weights_only=True)  # as it was: no word
    assert "the run goes on" not in caplog.text

    content["package_version"] = "0.0.1"
    torch.save(content, path)
    other = finetune(label_smoothing=0.1, optimizer=OptimizerConfig(lr=2e-3, layer_decay=0.65))
    told = (
        rf"goes on with other settings than the checkpoint's: sslam-lightning 0\.0\.1 \(now {__version__}\), "
        r"label_smoothing 0\.0 \(now 0\.1\), optimizer\.lr 0\.001 \(now 0\.002\)"
    )
    with pytest.warns(UserWarning, match=told), caplog.at_level(logging.WARNING, "sslam_lightning"):
        trainer(tmp_path / "b").fit(other, soundscapes(20), ckpt_path=path, weights_only=True)
    assert "goes on with other data, or in another order, than the checkpoint's: clips 24 (now 20)" in caplog.text


def test_a_batch_that_an_exception_broke_off_comes_again(tmp_path):
    class Interrupt(pl.Callback):
        def on_before_backward(self, trainer, pl_module, loss) -> None:
            if trainer.global_step == 2:
                trainer.save_checkpoint(tmp_path / "broken_off.ckpt")

    whole, _ = fit(tmp_path, Interrupt(), max_epochs=1)
    again, _ = fit(tmp_path / "b", ckpt_path=tmp_path / "broken_off.ckpt", max_epochs=1)
    assert again.losses == dict(list(whole.losses.items())[2:])
    assert_equal(again.students[-1], whole.students[-1], "weights")


def test_the_best_score_survives_a_resume(tmp_path):
    """Validation logs the best score so far beside the last one."""
    first = trainer(tmp_path / "first", max_epochs=1, keep_every_epoch=True)
    first.fit(finetune(), soundscapes(4, 8))
    assert 0 < float(first.callback_metrics["val/best_mAP"]) < 0.99

    kept = tmp_path / "first" / "epoch=0.ckpt"
    content = torch.load(kept, weights_only=True)
    assert content["state_dict"]["best_score.max_value"] == first.callback_metrics["val/best_mAP"]
    content["state_dict"]["best_score.max_value"] = torch.tensor(0.999)  # as if the first epoch had been excellent
    torch.save(content, kept)
    second = trainer(tmp_path / "second", max_epochs=2)
    second.fit(finetune(), soundscapes(4, 8), ckpt_path=kept, weights_only=True)
    assert float(second.callback_metrics["val/best_mAP"]) == pytest.approx(0.999)
    assert float(second.callback_metrics["val/mAP"]) < 0.99


def test_ranks_compare_the_checkpoint_that_they_resume_from(tmp_path, monkeypatch):
    first = trainer(tmp_path, max_epochs=1, keep_every_epoch=True)
    first.fit(pretrain(), soundscapes(4))
    asked = []
    monkeypatch.setattr(
        "sslam_lightning.training.callbacks.resume.check_one_checkpoint", lambda runner: asked.append(runner.ckpt_path)
    )
    last = tmp_path / "epoch=0.ckpt"
    trainer(tmp_path / "again", max_epochs=2).fit(pretrain(), soundscapes(4), ckpt_path=last, weights_only=True)
    assert asked == [last]
