"""Writes what ``sslam predict`` predicts: a row a clip, or a row an event."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import BasePredictionWriter
from lightning.pytorch.utilities import rank_zero_warn

from sslam_lightning.data.manifests.tables import write_table

_EVENT_HEADER = ("filename", "onset", "offset", "event_label")


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
        if self._begun:
            os.replace(self._unfinished, self.path)
        self._begun = False

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if self._begun:
            rank_zero_warn(f"{self._unfinished} has the predictions so far; the next run replaces it")

    @property
    def _unfinished(self) -> Path:
        return self.path.with_name(f"{self.path.name}.unfinished")


class EventWriter(PredictionWriter):
    """One row an event, as DCASE and DESED write them, and as `EventTableDataModule` reads them; seconds.

    A recording without events has a row with its name alone. Rank 0 writes those of all ranks.

    Args:
        path: the table, tabs between its cells; it must not exist yet.
    """

    def __init__(self, path: str | Path = "events.tsv") -> None:
        super().__init__(path)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage == "predict" and self.path.exists():
            raise FileExistsError(f"{self.path} exists already: move it away")

    def write_on_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Nothing yet: an event may go on in the next clip."""

    def on_predict_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        found = pl_module.take_events(trainer.predict_dataloaders)  # a collective call: on every rank
        if not trainer.is_global_zero:
            return
        rows = [
            row
            for name, events in found.items()
            for row in ([(name, *_seconds(e[:2]), e.label) for e in events] or [(name, "", "", "")])
        ]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_table(str(self.path), _EVENT_HEADER, rows)


def _seconds(times: tuple[float, float]) -> tuple[str, str]:
    """In milliseconds: no frame is that short."""
    onset, offset = times
    return f"{onset:.3f}", f"{offset:.3f}"
