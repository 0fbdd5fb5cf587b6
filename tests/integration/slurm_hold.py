"""A callback for a job in test_slurm.py: it waits for Slurm, so that the test need not guess how fast the job is."""

from __future__ import annotations

import os
import time
from pathlib import Path

import lightning.pytorch as pl

from sslam_lightning.runtime.signals import received

_PATIENCE_SECONDS = 600.0  # more than the test's own; no measure of how fast anything is


class Hold(pl.Callback):
    """Stands still before an update until a signal comes: in the first start of the job before the first, and so on.

    Args:
        updates: one for each start; a start beyond them goes through.
        folder: where ``holding_N`` says that start N is there.
    """

    def __init__(self, updates: list[int], folder: str) -> None:
        self.updates, self.folder = updates, Path(folder)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        start = int(os.environ.get("SLURM_RESTART_COUNT", 0))
        if trainer.global_step in self.updates[start : start + 1]:
            (self.folder / f"holding_{start}").touch()
            end = time.monotonic() + _PATIENCE_SECONDS
            while not received() and time.monotonic() < end:
                time.sleep(0.05)
