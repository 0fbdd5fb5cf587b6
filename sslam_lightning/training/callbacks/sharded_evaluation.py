"""Under FSDP no device can run the model alone: in an evaluation, those without clips lend the others their weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
import torch
from torch import nn
from torchmetrics import Metric

from sslam_lightning.data.loading.loader import ClipLoader
from sslam_lightning.data.loading.sampler import EpochSampler
from sslam_lightning.types import AnyBatch


class ShardedEvaluation(pl.Callback):
    """A rank that has a batch less than another, or no clip that can be read in one, runs the step on a stand-in.

    The weights of a block are gathered from all ranks whenever one of them runs it. What comes out counts nowhere.
    """

    def __init__(self) -> None:
        self._batches = 0

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._batches = 0

    on_test_epoch_start = on_predict_epoch_start = on_validation_epoch_start

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """The step has been left out where too few clips can be read; a prediction is made of any number but none."""
        self._batches += 1
        left_out = len(batch.clip_index) == 0 if trainer.predicting else pl_module.is_empty(batch)
        if pl_module.is_sharded and left_out:
            self._stand_in(trainer, pl_module)

    on_test_batch_end = on_predict_batch_end = on_validation_batch_end

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if pl_module.is_sharded:
            for _ in range(_most_batches(trainer) - self._batches):
                self._stand_in(trainer, pl_module)

    on_test_epoch_end = on_predict_epoch_end = on_validation_epoch_end

    @staticmethod
    @torch.no_grad()
    def _stand_in(trainer: pl.Trainer, module: Any) -> None:
        step = (
            module.predict_step if trainer.predicting else module.test_step if trainer.testing else module.validation_step
        )
        with _uncounted(module):
            step(module.transfer_batch_to_device(_readable_clip_twice(_loader(trainer)), module.device, 0), 0)


def _loader(trainer: Any) -> Any:
    if trainer.predicting:
        return trainer.predict_dataloaders
    return trainer.test_dataloaders if trainer.testing else trainer.val_dataloaders


def _most_batches(trainer: Any) -> int:
    """That any rank has; Lightning's limits hold for each."""
    batch_sampler = getattr(_loader(trainer), "batch_sampler", None)  # for predictions Lightning wraps it
    sampler = getattr(batch_sampler, "sampler", None)
    if not isinstance(sampler, EpochSampler):
        return 0
    limit = trainer.limit_val_batches
    if trainer.predicting or trainer.testing:
        limit = trainer.limit_predict_batches if trainer.predicting else trainer.limit_test_batches
    batches = sampler.num_batches()
    batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
    return min(batches, trainer.num_sanity_val_steps) if trainer.sanity_checking else batches


def _readable_clip_twice(loader: ClipLoader) -> AnyBatch:
    """The first clip that can be read; twice, for steps that mix clips."""
    clips: Any = loader.dataset
    for index in range(len(clips)):
        batch = loader.collate_fn([clips[0, index]] * 2)
        if len(batch.clip_index):
            return batch
    raise ValueError(f"none of the {len(clips)} clips can be read")


@contextmanager
def _uncounted(module: nn.Module) -> Iterator[None]:
    """Metrics forget what they are told meanwhile."""
    metrics = [part for part in module.modules() if isinstance(part, Metric)]
    kept = [{name: list(s) if isinstance(s, list) else s.clone() for name, s in m.metric_state.items()} for m in metrics]
    yield
    for metric, states in zip(metrics, kept, strict=True):
        for name, state in states.items():
            setattr(metric, name, state)
