"""Small modules and data, and the callbacks that write down what a run does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from sslam_lightning.data import SyntheticDataModule
from sslam_lightning.features import LogMels
from sslam_lightning.losses import DINOLoss, SourceRetentionLoss, TeacherTargets, UtteranceLoss
from sslam_lightning.mixing import PartialMixing
from sslam_lightning.models import ConvDecoderConfig, EncoderConfig
from sslam_lightning.training import FinetuneModule, PretrainModule
from sslam_lightning.training.callbacks import CollapseConfig, EMAConfig, EMATeacher
from sslam_lightning.training.run.optimizers import OptimizerConfig

FRAMES = 64  # 4 x 8 patches
CLIP_SECONDS = 0.66
NUM_CLASSES = 4
FAST_EMA = EMAConfig(decay=0.9, end_decay=0.99, anneal_steps=20)  # moves within a few updates
STAGES = {
    "stage 1": {},
    "stage 2": {
        "mixing": PartialMixing(partner="neighbor"),
        "source_retention": SourceRetentionLoss(),
        "utterance": UtteranceLoss(top_k_layers=1),
    },
    "dino": {"utterance": None, "dino": DINOLoss()},
}


def encoder(**switches: Any) -> EncoderConfig:
    return EncoderConfig(dim=32, depth=2, num_heads=2, **switches)


def pretrain(stage: str = "stage 1", dropping: bool = False, noise_std: float = 0.01, **settings: Any) -> PretrainModule:
    drops = {"drop_path_end": 0.2, "dropout": 0.1, "attention_dropout": 0.1} if dropping else {}
    drops = {**drops, **settings.pop("encoder_switches", {})}
    settings = {
        "masks_per_clip": 2,
        "ema": FAST_EMA,
        "optimizer": OptimizerConfig(lr=1e-3, warmup_steps=2),
        "collapse": CollapseConfig(start_step=10_000),
        **STAGES[stage],
        **settings,
    }
    return PretrainModule(
        encoder(**drops),
        ConvDecoderConfig(dim=32, depth=2, groups=4, noise_std=noise_std),
        LogMels(num_frames=FRAMES),
        targets=TeacherTargets(top_k_layers=2),
        **settings,
    )


def finetune(**settings: Any) -> FinetuneModule:
    switches = settings.pop("encoder", {"drop_path_end": 0.1})
    settings = {"num_classes": NUM_CLASSES, "optimizer": OptimizerConfig(lr=1e-3, layer_decay=0.65), **settings}
    return FinetuneModule(encoder(**switches), LogMels(num_frames=FRAMES), **settings)


def soundscapes(num_train: int = 12, num_val: int = 0, batch_size: int = 4, **settings: Any) -> SyntheticDataModule:
    settings = {"num_workers": 0, "num_classes": NUM_CLASSES, "clip_seconds": CLIP_SECONDS, **settings}
    return SyntheticDataModule(num_train, num_val, batch_size=batch_size, **settings)


class Diary(pl.Callback):
    """The loss of every batch, the student after every optimizer update, and what was logged."""

    def __init__(self) -> None:
        self.losses: dict[tuple[int, int], float] = {}  # by (epoch, batch)
        self.logged: list[dict[str, float]] = []
        self.students: list[dict[str, torch.Tensor]] = []
        self._seen = 0

    def on_train_start(self, trainer, pl_module) -> None:
        self._seen = trainer.global_step

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.losses[trainer.current_epoch, batch_idx] = float(outputs["loss"])
        self.logged.append({name: float(value) for name, value in trainer.callback_metrics.items()})
        if trainer.global_step > self._seen:
            self._seen = trainer.global_step
            if isinstance(pl_module, PretrainModule):
                self.students.append(copy_of(pl_module.student))


class KeepEveryBatch(ModelCheckpoint):
    """A checkpoint behind every batch, also while gradients accumulate; a ModelCheckpoint, so that it comes last."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, save_top_k=0)
        self.count = 0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.count += 1
        trainer.save_checkpoint(Path(self.dirpath) / f"batch{self.count}.ckpt")


class Clips(pl.Callback):
    """The clips of every batch."""

    def __init__(self) -> None:
        self.seen: list[list[int]] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.seen.append(batch.clip_index.tolist())


def copy_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def trainer(folder: Path, *callbacks: pl.Callback, keep_every_epoch: bool = False, **settings: Any) -> pl.Trainer:
    checkpoints = [ModelCheckpoint(folder, "{epoch}", save_top_k=-1, every_n_epochs=1)] if keep_every_epoch else []
    settings = {"accelerator": "cpu", "devices": 1, "max_epochs": 1, "log_every_n_steps": 1, "logger": False, **settings}
    return pl.Trainer(
        default_root_dir=folder,
        callbacks=[*callbacks, *checkpoints],
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in (*callbacks, *checkpoints)),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **settings,
    )


def ema_callback(of: pl.Trainer) -> EMATeacher:
    (callback,) = (callback for callback in of.callbacks if isinstance(callback, EMATeacher))
    return callback
