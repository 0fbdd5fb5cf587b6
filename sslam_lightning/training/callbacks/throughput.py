"""Clips per second."""

from __future__ import annotations

import time
from typing import Any

import lightning.pytorch as pl


class Throughput(pl.Callback):
    """Logs the clips that all devices together trained on per second, averaged between log entries."""

    def __init__(self) -> None:
        self._clips = 0
        self._start = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Do not count what happened between epochs."""
        self._clips, self._start = 0, time.perf_counter()

    def on_train_batch_end(
        self, trainer: Any, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count, and log at the trainer's interval."""
        self._clips += len(batch.waveforms) * trainer.world_size
        if (batch_idx + 1) % max(1, trainer.log_every_n_steps) == 0:
            now = time.perf_counter()
            pl_module.log("clips_per_second", self._clips / max(1e-9, now - self._start))
            self._clips, self._start = 0, now
