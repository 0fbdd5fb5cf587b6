"""The callbacks by themselves, with a stand-in for the trainer; with the real one they run in the integration tests."""

from __future__ import annotations

import csv
import json
import time
import warnings
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from sslam_lightning.training.callbacks import (
    CollapseGuard,
    EMAConfig,
    EMATeacher,
    GuardConfig,
    LossGuard,
    PredictionWriter,
    Throughput,
)
from sslam_lightning.training.callbacks.collapse_guard import Collapse
from sslam_lightning.training.callbacks.loss_guard import NotFinite, Update
from sslam_lightning.training.callbacks.sharded_evaluation import ShardedEvaluation


def fake_trainer(step: int = 0, every: int = 1, **more: Any) -> Any:
    strategy = SimpleNamespace(
        reduce_boolean_decision=lambda decision, all: decision, reduce=lambda tensor, reduce_op: tensor
    )
    more = {"precision": "32-true", "default_root_dir": "/nowhere", **more}
    return SimpleNamespace(global_step=step, log_every_n_steps=every, strategy=strategy, world_size=1, **more)


class FakeModule:
    """Writes down what it is asked for."""

    def __init__(self) -> None:
        self.student = object()
        self.teacher = self
        self.followed: list[tuple[object, float]] = []
        self.logged: dict[str, list[float]] = {}

    def follow(self, student: object, decay: float) -> None:
        self.followed.append((student, decay))

    def log(self, name: str, value: float) -> None:
        self.logged.setdefault(name, []).append(value)


# The teacher ---------------------------------------------------------------------------------------------------------


def test_the_teacher_moves_once_an_update_with_a_rising_decay() -> None:
    callback, module = EMATeacher(EMAConfig(0.5, 0.9, 4)), FakeModule()
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))])
    trainer = fake_trainer(optimizers=[optimizer])
    callback.on_train_start(trainer, module)  # type: ignore[arg-type]
    for batch, updates in enumerate([False, True, False, True, True, True, True]):
        if updates:
            optimizer.step()
        callback.on_train_batch_end(trainer, module, None, None, batch)
    callback.on_train_end(trainer, module)  # type: ignore[arg-type]
    assert not optimizer._optimizer_step_post_hooks
    assert [decay for _, decay in module.followed] == pytest.approx([0.6, 0.7, 0.8, 0.9, 0.9])
    assert {student for student, _ in module.followed} == {module.student}
    assert module.logged["ema_decay"] == [decay for _, decay in module.followed]
    assert callback.updates == 5


def test_the_teachers_state_is_plain_and_resumes() -> None:
    config = EMAConfig(0.5, 0.9, 4)
    callback = EMATeacher(config)
    callback.updates = 3
    state = callback.state_dict()
    assert json.loads(json.dumps(state)) == {
        "updates": 3,
        "decay": 0.5,
        "end_decay": 0.9,
        "anneal_updates": 4,
        "start_at_decay": False,
    }
    again = EMATeacher(config)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again.load_state_dict(state)
    assert again.updates == 3
    assert again.decay == pytest.approx(0.8)


@pytest.mark.parametrize("other", [EMAConfig(0.6, 0.9, 4), EMAConfig(0.5, 0.95, 4), EMAConfig(0.5, 0.9, 8)], ids=str)
def test_a_changed_schedule_is_told(other: EMAConfig) -> None:
    callback = EMATeacher(EMAConfig(0.5, 0.9, 4))
    callback.updates = 3
    again = EMATeacher(other)
    with pytest.warns(UserWarning, match=r"the teacher's schedule was \{'decay': 0\.5.*\} in the checkpoint and now is \{"):
        again.load_state_dict(callback.state_dict())
    assert again.updates == 3
    assert again.config == other


@pytest.mark.parametrize(("decay", "end"), [(-0.1, 0.9), (0.9, 0.8), (0.9, 1.1)])
def test_decays_out_of_range(decay: float, end: float) -> None:
    with pytest.raises(ValueError, match=rf"ema needs 0 <= decay <= end_decay <= 1, got {decay} and {end}"):
        EMAConfig(decay, end)


# Collapse ------------------------------------------------------------------------------------------------------------


def watch(step: int, every: int = 1, **logged: float) -> None:
    guard = CollapseGuard(GuardConfig(0.25, 0.5, min_token_deviation=0.1, after_updates=10))
    metrics = {name: torch.tensor(value) for name, value in logged.items()}
    guard.on_train_batch_end(fake_trainer(step, every, callback_metrics=metrics), None, None, None, 0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value", "bound"),
    [("prediction_variance", 0.2, "0.25"), ("target_variance", 0.4, "0.5"), ("token_deviation", 0.09, "0.1")],
)
def test_a_collapse_is_told(name: str, value: float, bound: str) -> None:
    told = name.replace("_", " ")
    message = rf"after 12 updates the {told} is {value}, below its bound {bound} \(model\.guard\.min_{name}\)"
    with pytest.raises(Collapse, match=message) as error:
        watch(12, **{"prediction_variance": 1.0, "target_variance": 1.0, "token_deviation": 1.0, name: value})
    assert error.value.for_users


def test_no_collapse() -> None:
    gone = {"prediction_variance": 0.0, "target_variance": 0.0, "token_deviation": 0.0}
    watch(12, prediction_variance=0.25, target_variance=0.5, token_deviation=0.1)  # at the bounds
    watch(12)  # nothing was logged yet
    watch(10, **gone)  # the guard is not awake yet
    watch(12, every=5, **gone)  # logged values are old
    with pytest.raises(Collapse):
        watch(15, every=5, **gone)
    with pytest.raises(Collapse):
        watch(11, prediction_variance=0.0, target_variance=1.0)


def test_bounds_of_zero_never_stop_a_run() -> None:
    """D8: as EAT and SSLAM publish it."""
    guard = CollapseGuard(GuardConfig(0.0, 0.0, 0.0, after_updates=0))
    gone = {f"{name}_{kind}": torch.tensor(0.0) for name, kind in (("prediction", "variance"), ("target", "variance"))}
    trainer = fake_trainer(12, callback_metrics={**gone, "token_deviation": torch.tensor(0.0)})
    guard.on_train_batch_end(trainer, None, None, None, 0)  # type: ignore[arg-type]


# Losses that are no numbers ------------------------------------------------------------------------------------------


def end_batch(guard: LossGuard, trainer: Any, loss: Any, names: tuple[str, ...] = ("a", "b")) -> None:
    batch = SimpleNamespace(names=names)
    guard.on_train_batch_end(trainer, nn.Linear(1, 1), loss, batch, 0)  # type: ignore[arg-type]


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("as_dict", [True, False])
def test_a_lost_loss_stops_the_run(loss: float, as_dict: bool, tmp_path) -> None:
    guard = LossGuard(max_skips_in_a_row=0)
    for step, value in enumerate([1.0, 2.0, loss], start=1):
        outputs: Any = torch.tensor(value)
        outputs = {"loss": outputs} if as_dict else outputs
        trainer = fake_trainer(step, default_root_dir=tmp_path)
        if step < 3:
            end_batch(guard, trainer, outputs)
            continue
        message = r"became NaN or infinite in update 3; the clips are listed in \S+not_finite_clips.csv, checkpoints before"
        with pytest.raises(NotFinite, match=message) as error:
            end_batch(guard, trainer, outputs)
        assert error.value.for_users


def test_so_many_lost_updates_in_a_row_are_skipped_and_their_clips_are_listed(tmp_path) -> None:
    guard = LossGuard(max_skips_in_a_row=2)
    nan, norms = torch.tensor(float("nan")), []
    steps = [(1, 1.0), (2, nan), (3, nan), (4, 1.0), (5, nan), (6, nan), (7, nan)]
    for step, loss in steps:
        trainer = fake_trainer(step, default_root_dir=tmp_path, current_epoch=step // 4, global_rank=1)
        norms.append(guard.allows(trainer, torch.as_tensor(loss)))
        if step == 7:
            with pytest.raises(NotFinite, match="in update 7 and the 2 before it"):
                end_batch(guard, trainer, torch.tensor(0.5), (f"clip {step}",))
        elif norms[-1]:
            end_batch(guard, trainer, torch.tensor(0.5), (f"clip {step}",))
        else:
            with pytest.warns(UserWarning, match=rf"update {step} is skipped, it is not finite"):
                end_batch(guard, trainer, torch.tensor(0.5), (f"clip {step}",))
    assert norms == [True, False, False, True, False, False, False]
    assert guard.skipped == 5
    rows = (tmp_path / "not_finite_clips_rank1.csv").read_text().splitlines()
    assert rows[0] == "update,epoch,rank,finite_on_this_rank,clip"
    assert rows[1:] == [f"{step},{step // 4},1,False,clip {step}" for step in (2, 3, 5, 6, 7)]


def test_all_batches_of_a_lost_update_are_listed(tmp_path) -> None:
    guard = LossGuard(max_skips_in_a_row=0)
    end_batch(guard, fake_trainer(0), torch.tensor(float("nan")), ("a",))  # accumulates, so nothing is said yet
    with pytest.raises(NotFinite, match="in update 1;"):
        end_batch(guard, fake_trainer(1, default_root_dir=tmp_path), torch.tensor(1.0), ("b",))
    rows = (tmp_path / "not_finite_clips.csv").read_text().splitlines()
    assert [row.split(",")[-1] for row in rows] == ["clip", "a", "b"]


def test_where_the_loss_scaler_skips_the_guard_judges_the_loss_alone() -> None:
    lost = torch.tensor(float("inf"))
    guard = LossGuard()
    assert guard.allows(fake_trainer(1, precision="16-mixed"), lost)
    end_batch(guard, fake_trainer(1, precision="16-mixed"), torch.tensor(1.0))
    assert guard.skipped == 0
    assert LossGuard(0).allows(fake_trainer(1), lost)
    assert not LossGuard(1).allows(fake_trainer(1), lost)
    with pytest.raises(ValueError, match="max_skips_in_a_row must not be negative, got -1"):
        LossGuard(-1)


def test_a_batch_without_a_loss_is_none_of_its_business() -> None:
    guard, module = LossGuard(0), nn.Linear(1, 1)  # which would stop at the first loss that is not finite
    end_batch(guard, fake_trainer(1), None)
    assert guard._recent == []
    guard.on_train_epoch_end(fake_trainer(1), module)  # type: ignore[arg-type]
    guard.on_save_checkpoint(fake_trainer(1), module, {})  # type: ignore[arg-type]


@pytest.mark.parametrize("save", [True, False])
def test_losses_on_a_device_are_asked_before_anything_is_written(save: bool, tmp_path) -> None:
    guard, module = LossGuard(0), nn.Linear(1, 1)
    guard._recent = [Update(7, 0, ["a"], torch.tensor(False))]  # a device's loss, between two looks
    hook = partial(guard.on_save_checkpoint, checkpoint={}) if save else guard.on_train_epoch_end
    with pytest.raises(NotFinite, match=r"in update 7;"):
        hook(fake_trainer(7, default_root_dir=tmp_path), module)  # type: ignore[arg-type]


def test_a_checkpoint_behind_a_skipped_update_keeps_the_count(tmp_path) -> None:
    guard, trainer, checkpoint = LossGuard(1), fake_trainer(3, default_root_dir=tmp_path), {}
    guard._recent = [Update(3, 0, ["a"], torch.tensor(False))]  # a device's loss, not looked at yet
    with pytest.warns(UserWarning, match="update 3 is skipped"):
        guard.on_save_checkpoint(trainer, nn.Linear(1, 1), checkpoint)  # type: ignore[arg-type]
    assert checkpoint == {"callbacks": {"LossGuard": {"skipped": 1, "in_a_row": 1}}}
    again = LossGuard(1)
    again.load_state_dict(checkpoint["callbacks"]["LossGuard"])
    again.on_train_start(trainer, nn.Linear(1, 1))  # type: ignore[arg-type]
    with pytest.raises(NotFinite, match="in update 4 and the 1 before it"):
        end_batch(again, fake_trainer(4, default_root_dir=tmp_path), torch.tensor(float("nan")))


def test_all_ranks_stop_together(tmp_path) -> None:
    guard, trainer = LossGuard(0), fake_trainer(4, default_root_dir=tmp_path)
    trainer.strategy.reduce = lambda tensor, reduce_op: tensor * 0  # another rank says no
    with pytest.raises(NotFinite, match=r"in update 4;"):
        end_batch(guard, trainer, torch.tensor(1.0))
    assert "4,0,0,True,a" in (tmp_path / "not_finite_clips.csv").read_text()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_lost_weights_are_not_saved_even_if_the_loss_was_finite(value: float) -> None:
    guard, module = LossGuard(), nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    guard.on_train_batch_end(fake_trainer(7), module, torch.tensor(0.5), None, 0)  # type: ignore[arg-type]
    guard.on_save_checkpoint(fake_trainer(7), module, {})  # type: ignore[arg-type]
    with torch.no_grad():
        module[1].weight[0, 1] = value
    message = r"1\.weight became NaN or infinite before update 7; this checkpoint was not written"
    with pytest.raises(NotFinite, match=message):
        guard.on_save_checkpoint(fake_trainer(7), module, {})  # type: ignore[arg-type]


# Measurements and predictions ----------------------------------------------------------------------------------------


def test_clips_per_second(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 11.0, 13.0, 100.0, 101.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    callback, module, batch = Throughput(), FakeModule(), SimpleNamespace(clip_index=torch.arange(6))
    callback.on_train_epoch_start(fake_trainer(), module)  # type: ignore[arg-type]
    callback.on_train_batch_end(fake_trainer(1, every=3), module, None, batch, 0)  # type: ignore[arg-type]
    callback.on_train_batch_end(fake_trainer(2, every=3), module, None, batch, 1)  # type: ignore[arg-type]
    assert module.logged == {}
    callback.on_train_epoch_start(fake_trainer(2), module)  # type: ignore[arg-type]
    callback.on_train_batch_end(fake_trainer(3, every=3), module, None, batch, 0)  # type: ignore[arg-type]
    assert module.logged["clips_per_second"] == [pytest.approx(18 / 4)]  # what lies between epochs does not count


def write(writer: PredictionWriter, trainer: Any, names: tuple[str, ...], values: torch.Tensor) -> None:
    writer.write_on_batch_end(trainer, None, (names, values), None, None, 0, 0)  # type: ignore[arg-type]


def test_predictions_are_appended_under_one_header(tmp_path) -> None:
    path = tmp_path / "new" / "predictions.csv"
    writer = PredictionWriter(str(path))
    trainer = fake_trainer(datamodule=SimpleNamespace(class_names=("dog", "rain")))
    writer.setup(trainer, None, "predict")  # type: ignore[arg-type]
    write(writer, trainer, ("a", "b"), torch.tensor([[0.5, 0.25], [1.0, 0.0]]))
    write(writer, trainer, (), torch.zeros(0, 0))  # none of its files could be read
    write(writer, trainer, ("c",), torch.tensor([[0.125, 2.0]], dtype=torch.bfloat16))
    writer.on_predict_end(trainer, None)  # type: ignore[arg-type]
    assert [file.name for file in path.parent.iterdir()] == ["predictions.csv"]
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [["name", "dog", "rain"], ["a", "0.5", "0.25"], ["b", "1.0", "0.0"], ["c", "0.125", "2.0"]]
    with pytest.raises(FileExistsError, match=r"predictions\.csv exists already: move it"):
        PredictionWriter(str(path)).setup(trainer, None, "predict")  # type: ignore[arg-type]


def test_features_have_numbers_for_names(tmp_path) -> None:
    writer = PredictionWriter(str(tmp_path / "features.csv"))
    write(writer, fake_trainer(), (), torch.zeros(0, 0))  # has no columns to be named
    write(writer, fake_trainer(datamodule=SimpleNamespace(class_names=("dog",))), ("a",), torch.ones(1, 3))
    writer.on_predict_end(fake_trainer(), None)  # type: ignore[arg-type]
    assert (tmp_path / "features.csv").read_text().splitlines()[0] == "name,0,1,2"


def test_what_a_failed_run_has_predicted_is_told_and_is_no_result(tmp_path) -> None:
    path, trainer = tmp_path / "p.csv", fake_trainer()
    failing, again, none = PredictionWriter(path), PredictionWriter(path), PredictionWriter(tmp_path / "none.csv")
    failing.setup(trainer, None, "predict")  # type: ignore[arg-type]
    write(failing, trainer, ("a", "b"), torch.ones(2, 1))
    with pytest.warns(UserWarning, match=r"p\.csv\.unfinished has the predictions so far; the next run replaces it"):
        failing.on_exception(trainer, None, KeyboardInterrupt())  # type: ignore[arg-type]
    assert not path.exists()
    assert (tmp_path / "p.csv.unfinished").read_text().split() == ["name,0", "a,1.0", "b,1.0"]

    with pytest.warns(UserWarning, match=r"p\.csv\.unfinished, of a run that did not come to its end, is replaced"):
        again.setup(trainer, None, "predict")  # type: ignore[arg-type]
    write(again, trainer, ("b",), torch.zeros(1, 1))
    again.on_predict_end(trainer, None)  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for writer in (again, none):  # what comes behind the end, or before the beginning
            writer.on_exception(trainer, None, KeyboardInterrupt())  # type: ignore[arg-type]
    none.on_predict_end(trainer, None)  # type: ignore[arg-type]
    assert path.read_text().split() == ["name,0", "b,0.0"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("stage", ["predicting", "validating"])
@pytest.mark.parametrize(("clips", "is_unusable"), [(0, True), (1, True), (2, False)])
def test_a_rank_lends_its_weights_for_what_it_leaves_out(
    stage: str, clips: int, is_unusable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    lent: list[int] = []
    monkeypatch.setattr(ShardedEvaluation, "_stand_in", lambda self, trainer, module: lent.append(clips))
    module: Any = SimpleNamespace(is_sharded=True, is_unusable=lambda batch: is_unusable)
    batch = SimpleNamespace(clip_index=torch.arange(clips))
    trainer = SimpleNamespace(predicting=stage == "predicting")
    ShardedEvaluation().on_predict_batch_end(trainer, module, None, batch, 0)
    assert lent == [clips] * (clips == 0 or (clips == 1 and stage == "validating"))  # one clip is predicted, not mixed


def test_every_rank_writes_a_file_of_its_own(tmp_path) -> None:
    writer, trainer = PredictionWriter(str(tmp_path / "p.csv")), fake_trainer(global_rank=1)
    trainer.world_size = 2
    writer.setup(trainer, None, "predict")  # type: ignore[arg-type]
    assert writer.path == tmp_path / "p_rank1.csv"
