"""A run that dies after a checkpoint and is resumed equals the uninterrupted one, bit for bit on the CPU."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from tiny import Diary, ema_callback, finetune, pretrain, soundscapes, trainer

from sslam_lightning.augment import Mixup, SpecAugment

EPOCHS, KEPT_EPOCHS = 3, 2

RUNS = {
    "stage 1": (lambda: pretrain("stage 1"), {}, {}),
    "stage 2, dropping": (lambda: pretrain("stage 2", dropping=True), {}, {"accumulate_grad_batches": 2}),
    "dino": (lambda: pretrain("dino"), {}, {}),
    "stage 1, dropping, 2 workers": (lambda: pretrain(dropping=True), {"num_workers": 2}, {"gradient_clip_val": 4.0}),
    "fine-tuning": (
        lambda: finetune(spec_augment=SpecAugment(), mixup=Mixup(alpha=0.8), noise_and_roll=True),
        {"num_val": 6},
        {"accumulate_grad_batches": 2},
    ),
}


class Killed(BaseException):
    """What happens to the machine, not to the code."""


class Kill(pl.Callback):
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if trainer.current_epoch == KEPT_EPOCHS and batch_idx == 1:
            raise Killed


def _assert_equal(own: Any, other: Any, where: str) -> None:
    assert type(own) is type(other), where
    if isinstance(own, torch.Tensor):
        assert own.dtype == other.dtype, where
        assert torch.equal(own, other), f"{where} differs by {(own.double() - other.double()).abs().max()}"
    elif isinstance(own, dict):
        assert own.keys() == other.keys(), where
        for key in own:
            _assert_equal(own[key], other[key], f"{where}.{key}")
    elif isinstance(own, (list, tuple)):
        assert len(own) == len(other), where
        for place, (left, right) in enumerate(zip(own, other, strict=True)):
            _assert_equal(left, right, f"{where}[{place}]")
    else:
        assert own == other, where


@pytest.mark.parametrize("name", list(RUNS))
def test_a_resumed_run_equals_the_uninterrupted_one(name, tmp_path):
    build, data, settings = RUNS[name]
    settings = {"max_epochs": EPOCHS, "keep_every_epoch": True, **settings}

    whole_diary, whole_module = Diary(), build()
    whole = trainer(tmp_path / "whole", whole_diary, **settings)
    start = {k: v.clone() for k, v in whole_module.state_dict().items()}
    whole.fit(whole_module, soundscapes(**data))
    assert len(whole_diary.losses) == EPOCHS * 3

    dying_diary, dying = Diary(), build()
    dying.load_state_dict(start)
    with pytest.raises(Killed):
        trainer(tmp_path / "dead", dying_diary, Kill(), **settings).fit(dying, soundscapes(**data))
    assert len(list((tmp_path / "dead").glob("*.ckpt"))) == KEPT_EPOCHS

    resumed_diary, resumed_module = Diary(), build()  # other initial weights, and nothing left of the dead process
    resumed = trainer(tmp_path / "resumed", resumed_diary, **settings)
    resumed.fit(
        resumed_module,
        soundscapes(**data),
        ckpt_path=tmp_path / "dead" / f"epoch={KEPT_EPOCHS - 1}.ckpt",
        weights_only=True,
    )

    later = {place: loss for place, loss in whole_diary.losses.items() if place[0] >= KEPT_EPOCHS}
    assert len(later) == 3
    assert resumed_diary.losses == later
    for own, other in zip(resumed_diary.logged, whole_diary.logged[-3:], strict=True):
        assert {k: v for k, v in own.items() if k in other} == {k: other[k] for k in own if k in other}
    assert resumed.global_step == whole.global_step
    own, other = (
        torch.load(tmp_path / run / f"epoch={EPOCHS - 1}.ckpt", weights_only=True) for run in ("resumed", "whole")
    )
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "hyper_parameters", "epoch", "global_step"):
        _assert_equal(own[part], other[part], part)
    if name != "fine-tuning":
        assert own["callbacks"]["EMATeacher"] == other["callbacks"]["EMATeacher"]
        assert ema_callback(resumed).updates == whole.global_step
        assert ema_callback(resumed).decay == ema_callback(whole).decay
        parts = {key.split(".")[0] for key in own["state_dict"]}
        assert parts == {"student", "teacher", "decoder"} | ({"centre"} if name == "dino" else set())
        if name == "dino":
            assert own["state_dict"]["centre"].abs().max() > 0
    moved = [k for k, v in start.items() if not torch.equal(v, whole_module.state_dict()[k])]
    assert len(moved) > 0.9 * len(start)  # else the comparison would prove little


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
