"""Clips per second."""

from __future__ import annotations

import time
from typing import Any

import lightning.pytorch as pl

from sslam_lightning.training.run.progress import ends_step


class Throughput(pl.Callback):
    """Logs the clips that all devices together trained on per second, averaged between log entries."""

    def __init__(self) -> None:
        self._clips = 0
        self._seconds = 0.0
        self._start = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Do not count what happened between epochs, validation above all."""
        self._start = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Any, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        self._clips += len(batch.clip_index) * trainer.world_size
        self._seconds += now - self._start
        self._start = now
        if ends_step(trainer) and trainer.global_step % max(1, trainer.log_every_n_steps) == 0:
            pl_module.log("perf/clips_per_second", self._clips / max(1e-9, self._seconds))
            self._clips, self._seconds = 0, 0.0
