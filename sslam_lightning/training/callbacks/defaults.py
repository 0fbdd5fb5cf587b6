"""The callbacks that every run has, from the command line and from Python alike."""

from __future__ import annotations

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from sslam_lightning.training.callbacks.non_finite_guard import NonFiniteGuard
from sslam_lightning.training.callbacks.resume import Resume
from sslam_lightning.training.callbacks.save_on_signal import SaveOnSignal
from sslam_lightning.training.callbacks.seed_batches import SeedBatches
from sslam_lightning.training.callbacks.sharded_evaluation import ShardedEvaluation
from sslam_lightning.training.callbacks.throughput import Throughput
from sslam_lightning.training.callbacks.unreadable_clip_monitor import UnreadableClipMonitor


def default_callbacks(trainer: pl.Trainer | None) -> list[Callback]:
    """The default callbacks but for those that the trainer has already, in whose place Lightning would put these."""
    present: list[Callback] = trainer.callbacks if trainer else []  # type: ignore[attr-defined]
    kinds: list[type[Callback]] = [
        SeedBatches,
        Resume,
        UnreadableClipMonitor,
        ShardedEvaluation,
        NonFiniteGuard,
        Throughput,
    ]
    if trainer and trainer.checkpoint_callbacks:
        kinds.append(SaveOnSignal)
    return [kind() for kind in kinds if not any(isinstance(callback, kind) for callback in present)]
