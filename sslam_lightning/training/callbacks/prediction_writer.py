"""Writes what ``sslam predict`` predicts."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import BasePredictionWriter
from lightning.pytorch.utilities import rank_zero_warn


class PredictionWriter(BasePredictionWriter):
    """One row a clip: its name, then a column per class (or per dimension, for a pre-trained encoder).

    Until all rows are written the file is called X.csv.unfinished. What a run that failed leaves under that name is for the
    user to look at; the next run takes its place.

    Args:
        path: the CSV file, which must not exist yet; with several ranks, each writes its own, named by its rank.
    """

    def __init__(self, path: str | Path = "predictions.csv") -> None:
        super().__init__("batch")
        self.path = Path(path)
        self._begun = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse to overwrite before anything is computed."""
        if trainer.world_size > 1:
            self.path = self.path.with_stem(f"{self.path.stem}_rank{trainer.global_rank}")
        if stage == "predict" and self.path.exists():
            raise FileExistsError(f"{self.path} exists already: move it away")
        if stage == "predict" and self._unfinished.exists():
            rank_zero_warn(f"{self._unfinished}, of a run that did not come to its end, is replaced")
        self._begun = False

    def write_on_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Append a batch, if a file of it can be read."""
        names, values = prediction
        if not names:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._unfinished.open("a" if self._begun else "w", newline="") as file:
            rows = csv.writer(file)
            if not self._begun:
                classes = getattr(getattr(trainer, "datamodule", None), "class_names", ())
                width = values.shape[1]
                rows.writerow(["name", *(classes if len(classes) == width else range(width))])
            rows.writerows([name, *row] for name, row in zip(names, values.float().cpu().tolist(), strict=True))
        self._begun = True

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """All rows are written: the file gets its name."""
        if self._begun:
            os.replace(self._unfinished, self.path)
        self._begun = False

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Tell where the rows so far are."""
        if self._begun:
            rank_zero_warn(f"{self._unfinished} has the predictions so far; the next run replaces it")

    @property
    def _unfinished(self) -> Path:
        return self.path.with_name(f"{self.path.name}.unfinished")
