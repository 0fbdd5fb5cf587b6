"""Fine-tuning, and the public code's linear evaluation: `FinetuneModule` and the trainer, no loop of our own."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any, ClassVar

import lightning.pytorch as pl
from jsonargparse import ArgumentError, ArgumentParser

from sslam_lightning.evaluation.clip_counts import ClipCounts
from sslam_lightning.evaluation.protocol import Outcome, Protocol, Task
from sslam_lightning.evaluation.scoring import check_metric, class_notes
from sslam_lightning.training import FinetuneModule

_OF_CHECKPOINT = ("encoder", "hugging_face", "features", "init_from", "init_part", "seed")  # and of the run
_OF_LOG_MELS = (
    "spec_augment",
    "noise_and_roll",
    "mixup",
)  # augmentations that a front-end without log-mels has to do without


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

    module_class: ClassVar[type[FinetuneModule]] = FinetuneModule
    of_data: ClassVar[tuple[str, ...]] = ("num_classes", "multi_label", "class_names", "resampler")  # it tells the module

    def __init__(
        self,
        updates: int = 1000,
        batch_size: int = 48,
        evaluations: int = 10,
        drop_path: float = 0.1,
        model: dict[str, Any] | None = None,
        trainer: dict[str, Any] | None = None,
    ) -> None:
        if updates < 1 or batch_size < 1 or not 1 <= evaluations <= updates:
            raise ValueError(
                "finetune: updates and batch_size must be at least 1 and evaluations between 1 and updates, "
                f"got {updates}, {batch_size} and {evaluations}"
            )
        self.updates, self.batch_size, self.evaluations, self.drop_path = updates, batch_size, evaluations, drop_path
        self.model, self.trainer = dict(model or {}), dict(trainer or {})
        if taken := [name for name in (*_OF_CHECKPOINT, *self.of_data) if name in self.model]:
            raise ValueError(f"finetune: model.{taken[0]} is not set here: it comes from the checkpoint, suite or data")
        _module_parser(self.module_class, self.model)  # a misspelt one is found before anything is computed

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
        scores = _Scores(f"val/{self.score_name(task.metric)}")
        trainer = pl.Trainer(
            **{
                "accelerator": "gpu" if task.device.type == "cuda" else "cpu",
                "devices": [task.device.index or 0] if task.device.type == "cuda" else 1,
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
            },
            callbacks=[scores],
        )
        try:
            trainer.fit(module, datamodule=data)
            if scores.last_update != trainer.global_step:
                trainer.validate(module, datamodule=data, verbose=False)
        finally:
            task.store.broken.update(data.broken_clips)
        counts = ClipCounts(len(test or ()), scores.num_broken, len(scores.broken_in_training))
        return Outcome(scores.values, {}, {**counts._asdict(), **class_notes(task.metric, scores.num_scored_classes)})

    def check(self, task: Task) -> None:
        """Refuse, before any clip is read, a metric that the module does not log or an encoder that it does not take.

        Raises:
            ValueError: naming what came and what is expected.
        """
        check_metric(task.metric, "finetune")

    def score_name(self, metric: str) -> str:
        """As the module logs it."""
        return metric

    def _module(self, task: Task, data: Any) -> FinetuneModule:
        model = task.model
        features = None if model.features is None else vars(model.features)
        left_out = () if features else _OF_LOG_MELS
        # Settings as plain data through a parser, as from a recipe: nested ones become objects, wrong ones are named.
        parser, settings = _module_parser(
            self.module_class,
            {
                **model.settings_for_training(self.drop_path),
                "features": features,
                **{name: getattr(data, name) for name in self.of_data},
                "init_from": None if model.candidate.is_random else model.candidate.source,
                "init_part": model.candidate.part,
                "seed": task.seed,
                **{name: value for name, value in self.model.items() if name not in left_out},
            },
        )
        return parser.instantiate(settings).model


def _module_parser(kind: type[FinetuneModule], settings: Mapping[str, Any]) -> tuple[ArgumentParser, Any]:
    """What makes a module of these settings, and they, understood.

    Raises:
        ValueError: naming what the module does not take.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind, "model")
    try:
        return parser, parser.parse_object({"model": dict(settings)})
    except ArgumentError as error:
        raise ValueError(f"finetune: {error}") from None


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
        """Training clips come again and again."""
        self.broken_in_training.update(name for name, _ in batch.broken)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Test clips come once."""
        self.num_broken = 0

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *_: int
    ) -> None:
        """Whatever score is made of them."""
        self.num_broken += len(batch.broken)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Behind `on_validation_epoch_end`, which scores."""
        self.values.append(float(trainer.callback_metrics.get(self.name, math.nan)))
        self.num_scored_classes = int(trainer.callback_metrics.get("val/scored_classes", 0))
        self.last_update = trainer.global_step
