"""The callbacks by themselves, with a stand-in for the trainer; with the real one they run in the integration tests."""

from __future__ import annotations

import csv
import json
import time
import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from sslam_lightning.training.callbacks import (
    CollapseConfig,
    CollapseMonitor,
    EMAConfig,
    EMATeacher,
    NonFiniteGuard,
    PredictionWriter,
    Throughput,
)
from sslam_lightning.training.callbacks.collapse_monitor import Collapse
from sslam_lightning.training.callbacks.non_finite_guard import NotFinite
from sslam_lightning.training.callbacks.sharded_evaluation import ShardedEvaluation


def fake_trainer(step: int = 0, every: int = 1, **more: Any) -> Any:
    strategy = SimpleNamespace(
        reduce_boolean_decision=lambda decision, all: decision, reduce=lambda tensor, reduce_op: tensor
    )
    more = {"precision": "32-true", "default_root_dir": "/nowhere", "current_epoch": 0, "global_rank": 0, **more}
    accumulates = more.pop("accumulates", False)
    more |= {"fit_loop": SimpleNamespace(_should_accumulate=lambda: accumulates)}
    more |= {"gradient_clip_val": None, "gradient_clip_algorithm": None}
    return SimpleNamespace(global_step=step, log_every_n_steps=every, strategy=strategy, world_size=1, **more)


class FakeModule:
    """Writes down what it is asked for."""

    def __init__(self) -> None:
        self.student = object()
        self.teacher = self
        self.steps_taken = 0
        self.followed: list[tuple[object, float]] = []
        self.logged: dict[str, list[float]] = {}

    def update_ema(self, student: object, decay: float) -> None:
        self.followed.append((student, decay))

    def log(self, name: str, value: float) -> None:
        self.logged.setdefault(name, []).append(value)


# The teacher ---------------------------------------------------------------------------------------------------------


def test_the_teacher_moves_once_an_update_with_a_rising_decay() -> None:
    callback, module = EMATeacher(EMAConfig(0.5, 0.9, 4)), FakeModule()
    for batch, moves in enumerate([False, True, False, True, True, True, True]):
        module.steps_taken += moves
        callback.on_train_batch_end(fake_trainer(), module, None, None, batch)  # type: ignore[arg-type]
    assert [decay for _, decay in module.followed] == pytest.approx([0.6, 0.7, 0.8, 0.9, 0.9])
    assert {student for student, _ in module.followed} == {module.student}
    assert module.logged["train/ema_decay"] == [decay for _, decay in module.followed]
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
        "anneal_steps": 4,
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
    guard = CollapseMonitor(CollapseConfig(0.25, 0.5, min_token_std=0.1, start_step=10))
    metrics = {f"train/{name}": torch.tensor(value) for name, value in logged.items()}
    guard.on_train_batch_end(fake_trainer(step, every, callback_metrics=metrics), None, None, None, 0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value", "bound"),
    [("pred_std", 0.2, "0.25"), ("target_std", 0.4, "0.5"), ("token_std", 0.09, "0.1")],
)
def test_a_collapse_is_told(name: str, value: float, bound: str) -> None:
    told = name.replace("_", " ")
    message = rf"after 12 updates the {told} is {value}, below its bound {bound} \(model\.collapse\.min_{name}\)"
    with pytest.raises(Collapse, match=message) as error:
        watch(12, **{"pred_std": 1.0, "target_std": 1.0, "token_std": 1.0, name: value})
    assert error.value.for_users


def test_no_collapse() -> None:
    gone = {"pred_std": 0.0, "target_std": 0.0, "token_std": 0.0}
    watch(12, pred_std=0.25, target_std=0.5, token_std=0.1)  # at the bounds
    watch(12)  # nothing was logged yet
    watch(10, **gone)  # the guard is not awake yet
    watch(12, every=5, **gone)  # logged values are old
    with pytest.raises(Collapse):
        watch(15, every=5, **gone)
    with pytest.raises(Collapse):
        watch(11, pred_std=0.0, target_std=1.0)


def test_bounds_of_zero_never_stop_a_run() -> None:
    """D8: as EAT and SSLAM publish it."""
    guard = CollapseMonitor(CollapseConfig(0.0, 0.0, 0.0, start_step=0))
    gone = {f"train/{name}": torch.tensor(0.0) for name in ("pred_std", "target_std", "token_std")}
    trainer = fake_trainer(12, callback_metrics=gone)
    guard.on_train_batch_end(trainer, None, None, None, 0)  # type: ignore[arg-type]


# Losses that are no numbers ------------------------------------------------------------------------------------------


def step(
    guard: NonFiniteGuard, trainer: Any, gradient: float, loss: float = 1.0, names: tuple[str, ...] = ("a", "b")
) -> float:
    """A batch that ends in a step; what the weight, which was 1, is then."""
    module: Any = FakeModule()
    weight = nn.Parameter(torch.ones(1))
    weight.grad = torch.full((1,), gradient)
    optimizer = torch.optim.SGD([weight], lr=0.5)
    guard.on_before_optimizer_step(trainer, module, optimizer)
    optimizer.step()
    guard.on_train_batch_end(trainer, module, {"loss": torch.tensor(loss)}, SimpleNamespace(names=names), 0)
    return float(weight.detach())


@pytest.mark.parametrize("lost", [float("nan"), float("inf"), float("-inf")])
def test_a_lost_gradient_stops_the_run(lost: float, tmp_path) -> None:
    guard = NonFiniteGuard(max_consecutive_skips=0)
    assert [step(guard, fake_trainer(number, default_root_dir=tmp_path), 1.0) for number in (1, 2)] == [0.5, 0.5]
    message = r"became NaN or infinite in update 3; the clips are listed in \S+not_finite_clips.csv, checkpoints before"
    with pytest.raises(NotFinite, match=message) as error:
        step(guard, fake_trainer(3, default_root_dir=tmp_path), lost)
    assert error.value.for_users


def test_so_many_lost_updates_in_a_row_are_skipped_and_their_clips_are_listed(tmp_path) -> None:
    guard = NonFiniteGuard(max_consecutive_skips=2)
    nan, weights = float("nan"), []
    for number, gradient in [(1, 1.0), (2, nan), (3, nan), (4, 1.0), (5, nan), (6, nan)]:
        trainer = fake_trainer(number, default_root_dir=tmp_path, current_epoch=number // 4, global_rank=1)
        with warnings.catch_warnings(record=True) as told:
            weights.append(step(guard, trainer, gradient, names=(f"clip {number}",)))
        assert [f"update {number} is skipped, it is not finite" in str(line.message) for line in told] == [True] * (
            gradient != 1.0
        )
    trainer = fake_trainer(7, default_root_dir=tmp_path, current_epoch=1, global_rank=1)
    with pytest.raises(NotFinite, match="in update 7 and the 2 before it"):
        step(guard, trainer, nan, loss=nan, names=("clip 7",))
    assert weights == [0.5, 1.0, 1.0, 0.5, 1.0, 1.0]
    assert guard.skipped == 5
    rows = (tmp_path / "not_finite_clips_rank1.csv").read_text().splitlines()
    assert rows[0] == "update,epoch,rank,finite_on_this_rank,clip"
    assert rows[1:] == [f"{number},{number // 4},1,{number < 7},clip {number}" for number in (2, 3, 5, 6, 7)]


def test_all_batches_of_a_lost_update_are_listed(tmp_path) -> None:
    guard, module = NonFiniteGuard(max_consecutive_skips=0), FakeModule()
    first, outputs = SimpleNamespace(names=("a",)), {"loss": torch.tensor(float("nan"))}
    guard.on_train_batch_end(fake_trainer(accumulates=True), module, outputs, first, 0)  # type: ignore[arg-type]
    with pytest.raises(NotFinite, match="in update 1;"):
        step(guard, fake_trainer(1, default_root_dir=tmp_path), float("nan"), names=("b",))
    rows = (tmp_path / "not_finite_clips.csv").read_text().splitlines()
    assert [row.split(",")[-1] for row in rows] == ["clip", "a", "b"]


def test_with_fp16_the_loss_scaler_skips() -> None:
    guard, trainer = NonFiniteGuard(), fake_trainer(1, precision="16-mixed")
    step(guard, trainer, float("inf"))
    assert guard.skipped == 0
    with pytest.raises(ValueError, match="max_consecutive_skips must not be negative, got -1"):
        NonFiniteGuard(-1)


def test_gradients_are_clipped_by_their_norm_which_is_logged() -> None:
    module: Any = FakeModule()
    weight = nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([3.0, 4.0])
    trainer = fake_trainer(1)
    trainer.gradient_clip_val = 1.0
    NonFiniteGuard().on_before_optimizer_step(trainer, module, torch.optim.SGD([weight], lr=0.25))
    torch.testing.assert_close(weight.grad, torch.tensor([0.6, 0.8]))
    assert module.logged == {"train/grad_norm": [5.0], "train/lr": [0.25]}


def test_the_count_of_skips_survives_a_resume(tmp_path) -> None:
    guard, again = NonFiniteGuard(1), NonFiniteGuard(1)
    with pytest.warns(UserWarning, match="update 3 is skipped"):
        step(guard, fake_trainer(3, default_root_dir=tmp_path), float("nan"))
    assert guard.state_dict() == {"skipped": 1, "in_a_row": 1}
    again.load_state_dict(guard.state_dict())
    with pytest.raises(NotFinite, match="in update 4 and the 1 before it"):
        step(again, fake_trainer(4, default_root_dir=tmp_path), float("nan"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_lost_weights_are_not_saved_even_if_the_loss_was_finite(value: float) -> None:
    guard, module = NonFiniteGuard(), nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
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
    assert module.logged["perf/clips_per_second"] == [pytest.approx(18 / 4)]  # what lies between epochs does not count


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
@pytest.mark.parametrize(("clips", "is_empty"), [(0, True), (1, True), (2, False)])
def test_a_rank_lends_its_weights_for_what_it_leaves_out(
    stage: str, clips: int, is_empty: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    lent: list[int] = []
    monkeypatch.setattr(ShardedEvaluation, "_stand_in", lambda self, trainer, module: lent.append(clips))
    module: Any = SimpleNamespace(is_sharded=True, is_empty=lambda batch: is_empty)
    batch = SimpleNamespace(clip_index=torch.arange(clips))
    trainer = SimpleNamespace(predicting=stage == "predicting")
    ShardedEvaluation().on_predict_batch_end(trainer, module, None, batch, 0)
    assert lent == [clips] * (clips == 0 or (clips == 1 and stage == "validating"))  # one clip is predicted, not mixed


def test_every_rank_writes_a_file_of_its_own(tmp_path) -> None:
    writer, trainer = PredictionWriter(str(tmp_path / "p.csv")), fake_trainer(global_rank=1)
    trainer.world_size = 2
    writer.setup(trainer, None, "predict")  # type: ignore[arg-type]
    assert writer.path == tmp_path / "p_rank1.csv"
