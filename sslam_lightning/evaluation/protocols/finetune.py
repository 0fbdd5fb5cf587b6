"""Fine-tuning, the public code's linear evaluation, and detection: modules of ours and the trainer, no loop of our own."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from typing import Any, ClassVar

import lightning.pytorch as pl

from sslam_lightning.evaluation.protocols.base import Outcome, Protocol, Task
from sslam_lightning.evaluation.protocols.scoring import check_metric, class_notes
from sslam_lightning.evaluation.runs import ClipCounts
from sslam_lightning.evaluation.settings import build
from sslam_lightning.models import EncoderConfig
from sslam_lightning.training import DetectionModule, FinetuneModule
from sslam_lightning.whole_numbers import check_whole_numbers

_OF_CHECKPOINT = ("encoder", "hugging_face", "features", "init_from", "init_encoder", "seed")  # and of the run
_OF_LOG_MELS = ("spec_augment", "noise_and_roll", "mixup")  # augmentations that a front-end without log-mels does without


@dataclass
class FineTuning(Protocol):
    """The encoder learns with a head, by the settings of a fine-tuning recipe.

    With ``model: {frozen_encoder: true, frozen_drop_path: true}`` it is the public code's linear evaluation: the weights
    are frozen, but drop path stays on, and mixup where ``model.mixup`` is set. It starts from the checkpoint that is judged
    and writes none: the last score is that of the weights after the last update, the best the best on the way.

    Args:
        updates: of the optimizer.
        batch_size: clips of an update.
        evaluations: how often the test clips are scored at most, evenly spaced, the last time at the end.
        drop_path: of the last block; it rises from 0 at the first.
        model: settings of `FinetuneModule`, but for what the checkpoint, the suite and the data say. Augmentations of
            log-mels are left out for encoders that read waveforms.
        trainer: settings of Lightning's trainer, such as precision.
    """

    updates: int = 1000
    batch_size: int = 48
    evaluations: int = 10
    drop_path: float = 0.1
    model: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)

    module_class: ClassVar[type[FinetuneModule]] = FinetuneModule
    of_data: ClassVar[tuple[str, ...]] = ("num_classes", "multi_label", "class_names", "resampler")  # it tells the module

    def __post_init__(self) -> None:
        check_whole_numbers(self, "finetune")
        if self.updates < 1 or self.batch_size < 1 or not 1 <= self.evaluations <= self.updates:
            raise ValueError(
                "finetune: updates and batch_size must be at least 1 and evaluations between 1 and updates, "
                f"got {self.updates}, {self.batch_size} and {self.evaluations}"
            )
        if taken := [name for name in (*_OF_CHECKPOINT, *self.of_data) if name in self.model]:
            raise ValueError(f"finetune: model.{taken[0]} is not set here: it comes from the checkpoint, suite or data")
        self._build(self.model, check_only=True)  # a misspelt one is found before anything is computed

    def run(self, task: Task) -> Outcome:
        """Train, scoring the test clips now and then; nothing is chosen by these scores."""
        self.check(task)
        data = task.make_data(batch_size=self.batch_size)
        data.dataset("train")  # made of the suite's own seed; what the run's seed changes is their order
        test = data.dataset("test")
        data.seed = task.seed
        data.val_dataloader = data.test_dataloader  # type: ignore[method-assign]
        pl.seed_everything(task.seed, workers=True, verbose=False)
        module = self._module(task, data)
        scores = _Scores(f"val/{task.metric.replace(' ', '_')}")
        trainer = pl.Trainer(**self._trainer_settings(task), callbacks=[scores])
        try:
            trainer.fit(module, datamodule=data)
            if scores.last_update != trainer.global_step:
                trainer.validate(module, datamodule=data, verbose=False)
        finally:
            task.store.broken.update(data.unreadable_clips)
        counts = ClipCounts(len(test or ()), scores.num_broken, len(scores.broken_in_training))
        return Outcome(scores.values, {}, {**counts._asdict(), **class_notes(task.metric, scores.num_scored_classes)})

    def check(self, task: Task) -> None:
        """Raise ValueError, before any clip is read, for a metric or an encoder that the module does not know."""
        check_metric(task.metric, "finetune")

    def _trainer_settings(self, task: Task) -> dict[str, Any]:
        on_gpu = task.device.type == "cuda"
        return {
            "accelerator": "gpu" if on_gpu else "cpu",
            "devices": [task.device.index or 0] if on_gpu else 1,
            "max_steps": self.updates,
            "max_epochs": -1,
            "val_check_interval": math.ceil(self.updates / self.evaluations),
            "check_val_every_n_epoch": None,
            "num_sanity_val_steps": 0,
            "logger": False,
            "enable_checkpointing": False,
            "enable_model_summary": False,
            "enable_progress_bar": sys.stderr.isatty(),
            **self.trainer,
        }

    def _module(self, task: Task, data: Any) -> FinetuneModule:
        model = task.model
        left_out = () if model.features else _OF_LOG_MELS
        # As plain data through a parser, as from a recipe: nested settings become objects, wrong ones are named.
        return self._build(
            {
                **model.settings_for_training(self.drop_path),
                "features": None if model.features is None else vars(model.features),
                **{name: getattr(data, name) for name in self.of_data},
                "init_from": None if model.candidate.is_random else model.candidate.source,
                "init_encoder": model.candidate.part,
                "seed": task.seed,
                **{name: value for name, value in self.model.items() if name not in left_out},
            }
        )

    def _build(self, settings: dict[str, Any], check_only: bool = False) -> Any:
        kind = self.module_class
        described = {"class_path": f"{kind.__module__}.{kind.__qualname__}", "init_args": settings}
        return build(kind, "finetune", described, check_only)


class Detection(FineTuning):
    """The encoder learns with a head on frames (`DetectionModule`), scored by ``event F1``, ``onset F1`` or ``segment F1``.

    The data module has to know its events. With ``model: {frozen_encoder: true}`` the head alone learns.
    """

    module_class = DetectionModule
    of_data = ("num_classes", "class_names", "resampler")  # its classes are always several at once
    metrics = ("event F1", "onset F1", "segment F1")

    def check(self, task: Task) -> None:
        """Refuse the metrics of clips, and encoders whose tokens are no columns of log-mel patches."""
        if task.metric not in self.metrics:
            raise ValueError(
                f"Detection scores by {', '.join(self.metrics)}, not by {task.metric}: name it in the suite's "
                "`exclude_protocols`"
            )
        model = task.model
        transformers = not isinstance(model.encoder.config, EncoderConfig)
        if transformers or model.features is None:
            what = "is a model of transformers" if transformers else "reads waveforms"
            raise ValueError(f"{model.candidate.source} {what}; Detection takes our own encoder, on log-mels")


class _Scores(pl.Callback):
    """Remembers every score of the test clips, and which clips were broken."""

    def __init__(self, name: str) -> None:
        self.name, self.values, self.last_update = name, list[float](), -1
        self.num_scored_classes = 0  # of an mAP
        self.num_broken = 0  # test clips
        self.broken_in_training = set[str]()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.broken_in_training.update(name for name, _ in batch.broken)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.num_broken = 0

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *_: int
    ) -> None:
        self.num_broken += len(batch.broken)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Behind `on_validation_epoch_end`, which scores.
        self.values.append(float(trainer.callback_metrics.get(self.name, math.nan)))
        self.num_scored_classes = int(trainer.callback_metrics.get("val/mAP_num_classes", 0))
        self.last_update = trainer.global_step
