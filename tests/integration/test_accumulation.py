"""Batches that are accumulated to an update of fine-tuning do what one batch of all their clips does."""

from __future__ import annotations

import lightning.pytorch as pl
import pytest
import torch
from tiny import Diary, KeepEveryBatch, copy_of, finetune, soundscapes, trainer

from sslam_lightning.training.run.optimizers import OptimizerConfig

CLIPS = 16


class Gradients(pl.Callback):
    """Of every update."""

    def __init__(self) -> None:
        self.all: list[torch.Tensor] = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        self.all.append(torch.cat([p.grad.flatten() for p in pl_module.parameters() if p.grad is not None]))


def _fit(folder, accumulated: int, *callbacks, without_labels=(), checkpoint=None):
    """An update of eight clips after the other, of the same clips however they are cut into batches."""
    pl.seed_everything(3, verbose=False)
    data = soundscapes(CLIPS, batch_size=8 // accumulated)
    module = finetune(bce_reduction="positives", encoder={}, optimizer=OptimizerConfig(lr=1e-3, eps=1e-4))
    augmented = module.augmented

    def some_without_labels(batch):
        keep = torch.tensor([index not in without_labels for index in batch.clip_index.tolist()]).float()
        return augmented(batch._replace(labels=batch.labels * keep.unsqueeze(1)))

    module.augmented = some_without_labels
    gradients, diary = Gradients(), Diary()
    runner = trainer(folder, gradients, diary, *callbacks, accumulate_grad_batches=accumulated, max_epochs=2)
    runner.fit(module, data, ckpt_path=checkpoint, weights_only=True)
    return gradients.all, diary, copy_of(module)


@pytest.mark.parametrize("without_labels", [(), range(0, CLIPS, 2), range(CLIPS)], ids=["all", "half", "none"])
@pytest.mark.parametrize("accumulated", [2, 8])
def test_the_divisor_is_the_positives_of_the_whole_update(accumulated, without_labels, tmp_path):
    """D14: the summed loss is divided by the positives of all accumulated batches, also where some have none."""
    whole, whole_diary, _ = _fit(tmp_path, 1, without_labels=without_labels)
    parts, parts_diary, _ = _fit(tmp_path, accumulated, without_labels=without_labels)
    assert len(whole) == len(parts) == 4
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=2e-5 * float(one.abs().max()))
    losses = [entry["train/loss"] for entry in parts_diary.logged[accumulated - 1 :: accumulated]]
    assert losses == pytest.approx([entry["train/loss"] for entry in whole_diary.logged], rel=1e-4)


def test_a_run_resumed_between_accumulated_batches_divides_alike(tmp_path):
    """D14: the positives of the batches before the interruption count."""
    *_, whole = _fit(tmp_path, 4, KeepEveryBatch(tmp_path))
    *_, resumed = _fit(tmp_path / "resumed", 4, checkpoint=tmp_path / "batch6.ckpt")
    assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []
