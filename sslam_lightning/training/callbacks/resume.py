"""Resuming a run exactly where its checkpoint was saved, and a warning where that is not what it seems to be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.utilities import rank_zero_warn

from sslam_lightning.training.run.checkpoint_io import check_one_checkpoint, save_atomically
from sslam_lightning.training.run.hparams import differences
from sslam_lightning.training.run.progress import restore_progress, save_progress
from sslam_lightning.version import __version__

_FREE_SETTINGS = ("init_from", "compile", "_instantiator")  # which change nothing in a run that goes on


class Resume(pl.Callback):
    """Writes checkpoints atomically and with the place of the next optimizer step; resumes there, on all ranks alike.

    A run may be resumed with other settings or another version of this package; the differences are logged.
    """

    def __init__(self) -> None:
        self._progress: dict[str, Any] | None = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        check_one_checkpoint(trainer)
        save_atomically(trainer)

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["package_version"] = __version__
        save_progress(trainer, checkpoint)

    def on_load_checkpoint(self, trainer: Any, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        self._progress = checkpoint.get("train_progress")
        _warn_of_changes(checkpoint, pl_module.hparams)
        steps, end = checkpoint.get("global_step", 0), trainer.max_steps
        if 0 < end <= steps:
            rank_zero_warn(f"nothing is left to train: the checkpoint has {steps} updates, trainer.max_steps is {end}")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._progress is not None:
            restore_progress(trainer, self._progress)
            self._progress = None


def _warn_of_changes(checkpoint: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    saved = {name: value for name, value in checkpoint.get("hyper_parameters", {}).items() if name not in _FREE_SETTINGS}
    changed = differences(saved, settings)
    before = checkpoint.get("package_version")
    if before and before != __version__:
        changed.insert(0, f"sslam-lightning {before} (now {__version__})")
    if changed:
        rank_zero_warn(f"the run goes on with other settings than the checkpoint's: {', '.join(changed)}")
