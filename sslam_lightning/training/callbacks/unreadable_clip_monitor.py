"""Counts the clips that could not be read over all ranks, and stops all of them together when there are too many."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from torch import distributed

from sslam_lightning.data.loading.unreadable import Counts, UnreadableClips
from sslam_lightning.data.modules.base import AudioDataModule


class UnreadableClipMonitor(pl.Callback):
    """Logs ``unreadable_clips`` once an epoch. Several ranks judge their sum every ``trainer.log_every_n_steps`` batches.

    A single process is judged batch by batch, by its data module.
    """

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if account := _account(trainer):
            account.start_epoch(trainer.current_epoch)

    def on_train_batch_end(
        self, trainer: Any, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Judge at intervals: a look at the other ranks costs a little."""
        if trainer.world_size > 1 and (batch_idx + 1) % max(1, trainer.log_every_n_steps) == 0:
            self._judge(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if counts := self._judge(trainer, pl_module):
            pl_module.log("unreadable_clips", float(counts.broken_in_epoch))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Ranks may have different numbers of batches here, so that they meet only at the end."""
        self._judge(trainer, pl_module)

    on_test_end = on_predict_end = on_validation_end

    def _judge(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> Counts | None:
        account = _account(trainer)
        if account is None:
            return None
        mine = torch.tensor(account.counts, device=pl_module.device)
        counts = Counts(*(int(n) for n in trainer.strategy.reduce(mine, reduce_op="sum").tolist()))
        if account.too_many(counts):  # so say all ranks
            raise account.complaint(counts, _example(account))
        return counts


def _account(trainer: pl.Trainer) -> UnreadableClips | None:
    data = getattr(trainer, "datamodule", None)
    return data.broken if isinstance(data, AudioDataModule) else None


def _example(account: UnreadableClips) -> str | None:
    if not distributed.is_available() or not distributed.is_initialized():
        return account.example
    examples: list[str | None] = [None] * distributed.get_world_size()
    distributed.all_gather_object(examples, account.example)
    return next((example for example in examples if example), None)
