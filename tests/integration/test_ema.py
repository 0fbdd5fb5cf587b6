"""The teacher moves once per optimizer update, to where the published formula says, and learns nothing by itself."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from tiny import FAST_EMA, Diary, copy_of, ema_callback, pretrain, soundscapes, trainer


class CountUpdates(pl.Callback):
    """Counts the calls of the optimizer itself, not what Lightning says about them."""

    def __init__(self) -> None:
        self.count = 0

    def on_train_start(self, trainer, pl_module) -> None:
        def count(*_: Any) -> None:
            self.count += 1

        trainer.optimizers[0].register_step_post_hook(count)


class TeacherGradients(pl.Callback):
    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_after_backward(self, trainer, pl_module) -> None:
        self.seen += [parameter.grad for parameter in pl_module.teacher.parameters()]


@pytest.mark.parametrize(
    ("accumulate", "batches", "expected_updates"), [(1, 4, 8), (3, 6, 4), (3, 7, 6), (3, 2, 2), (2, 5, 6)]
)
def test_the_teacher_is_a_handmade_average_over_the_recorded_students(accumulate, batches, expected_updates, tmp_path):
    module, diary, counter = pretrain(), Diary(), CountUpdates()
    expected = {name: value.double() for name, value in copy_of(module.student).items()}
    runner = trainer(tmp_path, diary, counter, max_epochs=2, accumulate_grad_batches=accumulate)
    runner.fit(module, soundscapes(2 * batches, batch_size=2))

    filled_up = -(-batches // accumulate) * accumulate if batches > accumulate else batches  # to whole updates
    assert len(diary.losses) == 2 * filled_up
    assert counter.count == runner.global_step == ema_callback(runner).updates == expected_updates
    assert len(diary.students) == expected_updates
    for update, student in enumerate(diary.students, start=1):
        # The decay of an update is that behind it, as in the public trainer; a straight line from 0.9 to 0.99 over 20.
        decay = 0.9 + (0.99 - 0.9) * update / 20
        expected = {name: decay * value + (1 - decay) * student[name].double() for name, value in expected.items()}
    for name, value in module.teacher.encoder.state_dict().items():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")
    assert not torch.equal(module.teacher.encoder.cls_token, module.student.cls_token)
    assert ema_callback(runner).decay == pytest.approx(0.9 + 0.09 * expected_updates / 20)
    assert float(runner.callback_metrics["train/ema_decay"]) == pytest.approx(ema_callback(runner).decay)


def test_no_gradient_reaches_the_teacher(tmp_path):
    for stage in ("stage 1", "stage 2", "dino"):
        module, gradients = pretrain(stage, dropping=True), TeacherGradients()
        trainer(tmp_path, gradients, max_steps=2).fit(module, soundscapes())
        assert len(gradients.seen) == 2 * len(list(module.teacher.parameters()))
        assert all(gradient is None for gradient in gradients.seen)
        assert not any(part.training for part in module.teacher.encoder.modules())
        taught = {id(parameter) for parameter in module.teacher.parameters()}
        assert not [p for g in module.trainer.optimizers[0].param_groups for p in g["params"] if id(p) in taught]


def test_the_decay_ends_where_it_is_told_to(tmp_path):
    module = pretrain(ema=type(FAST_EMA)(decay=0.5, end_decay=0.75, anneal_steps=2))
    diary = Diary()
    runner = trainer(tmp_path, diary, max_epochs=2)
    runner.fit(module, soundscapes(8, batch_size=4))
    # The diary is written before the teacher moves, so it shows the decay of the update before.
    logged = [entry.get("train/ema_decay") for entry in diary.logged]
    assert logged[0] is None
    assert [*logged[1:], float(runner.callback_metrics["train/ema_decay"])] == pytest.approx([0.625, 0.75, 0.75, 0.75])
