"""Writes what ``sslam predict`` predicts."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import BasePredictionWriter


class PredictionWriter(BasePredictionWriter):
    """One row a clip: its name, then a column per class (or per dimension, for a pre-trained encoder).

    Args:
        path: the CSV file, which must not exist yet; with several ranks, each writes its own, named by its rank.
    """

    def __init__(self, path: str | Path = "predictions.csv") -> None:
        super().__init__("batch")
        self.path = Path(path)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse to overwrite before anything is computed."""
        if trainer.world_size > 1:
            self.path = self.path.with_stem(f"{self.path.stem}_rank{trainer.global_rank}")
        if stage == "predict" and self.path.exists():
            raise FileExistsError(f"{self.path} exists already: move it away")

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
        """Append a batch."""
        names, values = prediction
        new = not self.path.exists()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", newline="") as file:
            rows = csv.writer(file)
            if new:
                classes = getattr(getattr(trainer, "datamodule", None), "class_names", ())
                width = values.shape[1]
                rows.writerow(["name", *(classes if len(classes) == width else range(width))])
            rows.writerows([name, *row] for name, row in zip(names, values.float().cpu().tolist(), strict=True))
