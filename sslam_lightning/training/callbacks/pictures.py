"""Pictures of what the model sees and predictions, while it trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import TensorBoardLogger

from sslam_lightning.models import EncoderConfig
from sslam_lightning.training.pictures import draw_predictions
from sslam_lightning.training.run.loggers import WandbRun
from sslam_lightning.training.run.progress import ends_step


class Pictures(pl.Callback):
    """Draws a clip of the current batch, its mixture, its mask, prediction against target, and the CLS token's attention.

    Written as PNG to ``pictures/`` in the run's folder, and to W&B and TensorBoard where they are. Nothing random is used
    up, and rank 0 draws alone.

    Args:
        every_n_steps: how often.
        clip: which clip of rank 0's batch.
    """

    def __init__(self, every_n_steps: int = 5000, clip: int = 0) -> None:
        if every_n_steps < 1 or clip < 0:
            raise ValueError(f"expected every_n_steps > 0 and clip >= 0, got {every_n_steps} and {clip}")
        self.every_n_steps, self.clip = every_n_steps, clip

    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        if stage != "fit":
            return
        if not hasattr(pl_module, "teacher_targets"):
            kind = type(pl_module).__name__
            raise ValueError(f"Pictures are of what a PretrainModule predictions, got a {kind}: leave the callback out")
        if pl_module.is_sharded:
            raise ValueError("Pictures are drawn by rank 0 alone, which with FSDP holds no whole weights: leave them out")
        if pl_module.teacher is None:
            raise ValueError("Pictures are of what a teacher sees, which this module lacks (model.ema): leave them out")
        if pl_module.features is None or not _has_patches(pl_module.student.config):
            raise ValueError("Pictures are of log-mel patches and a CLS token, which this encoder lacks: leave them out")

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        updates = trainer.global_step
        due = ends_step(trainer) and updates % self.every_n_steps == 0
        if not due or not trainer.is_global_zero or len(batch.waveforms) <= max(self.clip, 1):
            return
        path = Path(trainer.default_root_dir) / "pictures" / f"update_{updates:08d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        draw(pl_module, batch, path, self.clip)
        for logger in trainer.loggers:
            if isinstance(logger, WandbRun):
                logger.log_pictures({"pictures/predictions": str(path)}, updates - 1)  # as Lightning counts its rows
            elif isinstance(logger, TensorBoardLogger):
                from matplotlib import pyplot

                image = pyplot.imread(path)
                logger.experiment.add_image("pictures/predictions", image, updates - 1, dataformats="HWC")


def _has_patches(config: EncoderConfig) -> bool:
    return config.front_end is None and config.cls_token


def draw(module: Any, batch: Any, path: Path, clip: int) -> None:
    """Draw in evaluation mode, and leave modes and generators as they were."""
    modes = {part: part.training for part in module.modules()}
    devices = [module.device] if module.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        draw_predictions(module, batch, path, clip)
    for part, training in modes.items():
        part.training = training
