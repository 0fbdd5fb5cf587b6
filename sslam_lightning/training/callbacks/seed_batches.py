"""Seeds for what has no key of its own: noise and dropout."""

from __future__ import annotations

import hashlib
from typing import Any

import lightning.pytorch as pl
import torch


class SeedBatches(pl.Callback):
    """Seeds PyTorch's generators before every batch by (seed, epoch, number of the device's batch).

    So a resumed run draws what an uninterrupted one draws, and four devices what one device draws in four batches.
    Validation draws the same at every epoch.
    """

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        _seed(pl_module, trainer.current_epoch, batch_idx)

    def on_validation_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        _seed(pl_module, -1, batch_idx)


def _seed(module: Any, epoch: int, batch_idx: int) -> None:
    where = f"{module.seed} {epoch} {batch_idx * module.world_size + module.global_rank}"
    torch.manual_seed(int.from_bytes(hashlib.blake2b(where.encode(), digest_size=8).digest(), "little", signed=True))
