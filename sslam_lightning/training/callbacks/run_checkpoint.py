"""The checkpoints of a run: ``last.ckpt`` is its newest state, ``best.ckpt`` that with the best score."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from sslam_lightning.checkpoints import BEST, LAST
from sslam_lightning.training.run.progress import ends_step

_COUNTERS = ("step", "epoch")  # which may be monitored, to keep the newest few; they are no scores


class RunCheckpoint(ModelCheckpoint):
    """`ModelCheckpoint` whose ``last.ckpt`` is always the newest state, whatever is monitored.

    Lightning rewrites ``last.ckpt`` only when a monitored score is among the best. This class rewrites it whenever a save
    is due, at the end of training, and on an exception with ``save_on_exception``. Under a monitored score it also keeps
    ``best.ckpt``, with the weights that were validated. Both names are fixed: a resumed run replaces the files, also in a
    folder that was moved.

    Args:
        dirpath: folder of the checkpoints; with the command line ``checkpoints`` in the run's folder if left out.
        filename: as in `ModelCheckpoint`; if left out ``best`` where one checkpoint is kept by its score.
        monitor: name of a logged score; ``step`` or ``epoch`` keep the newest ``save_top_k``, without a best.
        save_last: whether to write ``last.ckpt``; None means true.
        save_top_k: how many checkpoints to keep besides ``last.ckpt``; -1 keeps all.
        enable_version_counter: never replace a file of the same name. It has no effect on names that hold the step: a
            resumed run that comes by the same step writes the same state again.
        settings: further ones of `ModelCheckpoint`.

    Raises:
        ValueError: for ``save_last: link``.
    """

    def __init__(
        self,
        dirpath: str | Path | None = None,
        filename: str | None = None,
        monitor: str | None = None,
        save_last: bool | Literal["link"] | None = True,
        save_top_k: int = 1,
        enable_version_counter: bool = True,
        **settings: Any,
    ) -> None:
        if save_last == "link":
            raise ValueError("save_last must be true or false, got 'link': last.ckpt is always a file of its own")
        self.has_score = monitor is not None and monitor not in _COUNTERS
        best, _ = os.path.splitext(BEST)
        name = filename or (best if self.has_score and save_top_k == 1 else "{epoch}-{step}")
        super().__init__(
            dirpath,
            name,
            monitor,
            save_last=save_last is not False,
            save_top_k=save_top_k,
            enable_version_counter=enable_version_counter and name != best and "{step" not in name,
            **settings,
        )
        self._last_step = 0  # of last.ckpt, or of the start
        self._had_score = False  # before the validation that runs
        self._is_validated = False  # the score comes from validations,
        self._validated_step = -1  # the last one of which was after this step

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare with what is still there: in another folder, or without its files, scores start from the beginning."""
        super().on_train_start(trainer, pl_module)
        self._last_step = trainer.global_step  # of a run that goes on there is nothing new to save
        kept = {path: score for path, score in self.best_k_models.items() if self.file_exists(path, trainer)}
        if len(kept) < len(self.best_k_models):
            self._compare_with(kept)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save between two steps; the newest state also where the best has to wait for a validation."""
        if not ends_step(trainer):
            return  # a save that is due by the clock waits for the end of the step
        waited, self._defer_save_until_validation = self._defer_save_until_validation, False
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if self._defer_save_until_validation:
            self._save_only_last(trainer)
        self._defer_save_until_validation |= waited

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._had_score = self.monitor in trainer.callback_metrics

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare the score with the weights that it belongs to, also where saves are due at other times."""
        if not trainer.sanity_checking:
            self._is_validated |= self.has_score and not self._had_score and self.monitor in trainer.callback_metrics
            self._validated_step = trainer.global_step
        if not self._is_validated or (self.every_n_epochs and not self._save_on_train_epoch_end):
            super().on_validation_end(trainer, pl_module)
            return
        self._defer_save_until_validation = False
        is_due = (trainer.current_epoch + 1) % (self.every_n_epochs or 1) == 0
        if is_due and not self._should_skip_saving_checkpoint(trainer):
            self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save_only_last(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Keep the newest state, if asked to; it is not the best, whose name it must not take."""
        if self._should_save_on_exception(trainer):
            self._replace_last(trainer)

    def check_monitor_top_k(self, trainer: pl.Trainer, current: Tensor | None = None) -> bool:
        """NaN is not a score: of a run without any other, no checkpoint is the best."""
        is_kept = super().check_monitor_top_k(trainer, current)
        if not is_kept or current is None or self.save_top_k == -1:
            return is_kept
        return trainer.strategy.reduce_boolean_decision(not bool(torch.isnan(current)))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Find the files of a run by their names in its folder, which may have been moved or be spelt differently."""
        before = os.path.join(state_dict.get("dirpath") or "", "")

        def here(path: str) -> str:
            return os.path.join(self.dirpath or "", path[len(before) :]) if path.startswith(before) else path

        moved = {name: here(path) for name, path in state_dict.items() if path and name.endswith("_path")}
        models = {here(path): score for path, score in state_dict.get("best_k_models", {}).items()}
        super().load_state_dict({**state_dict, **moved, "best_k_models": models, "dirpath": self.dirpath})

    def _save_topk_checkpoint(self, trainer: pl.Trainer, monitor_candidates: dict[str, Tensor]) -> None:
        """What is called whenever a save is due: the best if there is a better one, and the last."""
        if self._is_validated and self._validated_step != trainer.global_step:
            self._save_only_last(trainer)
            return
        super()._save_topk_checkpoint(trainer, monitor_candidates)
        saved = self._last_checkpoint_saved if self._last_global_step_saved == trainer.global_step else ""
        if self.has_score and saved and saved == self.best_model_path and os.path.basename(saved) != BEST:
            self._save_checkpoint(trainer, self._path(BEST))
        self._replace_last(trainer)  # comes behind the others: it holds their names and scores

    def _save_last_checkpoint(self, trainer: pl.Trainer, monitor_candidates: dict[str, Tensor]) -> None:
        """Nothing: `_save_topk_checkpoint` has."""

    def _replace_last(self, trainer: pl.Trainer) -> None:
        if self.save_last:
            self.last_model_path = self._path(LAST)
            self._save_checkpoint(trainer, self.last_model_path)
            self._last_step = trainer.global_step

    def _save_only_last(self, trainer: pl.Trainer) -> None:
        """Once a step, which then may still become the best; never one that is not to be saved."""
        if self._last_step != trainer.global_step and not self._should_skip_saving_checkpoint(trainer):
            before = self._last_global_step_saved
            self._replace_last(trainer)
            self._last_global_step_saved = before

    def _path(self, name: str) -> str:
        return os.path.join(self.dirpath or "", name)

    def _compare_with(self, kept: dict[str, Tensor]) -> None:
        best, worst = (min, max) if self.mode == "min" else (max, min)
        self.best_k_models = kept
        self.best_model_path = best(kept, key=lambda path: float(kept[path])) if kept else ""
        self.kth_best_model_path = worst(kept, key=lambda path: float(kept[path])) if kept else ""
        self.best_model_score = kept.get(self.best_model_path)
        self.kth_value = kept.get(self.kth_best_model_path, torch.tensor(torch.inf if self.mode == "min" else -torch.inf))
