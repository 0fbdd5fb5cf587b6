"""Writes the events that ``sslam predict`` finds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from sslam_lightning.data.tables import write_table
from sslam_lightning.training.callbacks.prediction_writer import PredictionWriter

HEADER = ("filename", "onset", "offset", "event_label")


class EventWriter(PredictionWriter):
    """One row an event, as DCASE and DESED write them, and as `EventTableDataModule` reads them; seconds.

    A recording without events has a row with its name alone. Rank 0 writes those of all ranks.

    Args:
        path: the table, tabs between its cells; it must not exist yet.
    """

    def __init__(self, path: str | Path = "events.tsv") -> None:
        super().__init__(path)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse to overwrite before anything is computed."""
        if stage == "predict" and self.path.exists():
            raise FileExistsError(f"{self.path} exists already: move it away")

    def write_on_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Nothing yet: an event may go on in the next clip."""

    def on_predict_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Write the events of whole recordings."""
        found = pl_module.take_events(trainer.predict_dataloaders)  # a collective call: on every rank
        if not trainer.is_global_zero:
            return
        rows = [
            row
            for name, events in found.items()
            for row in ([(name, *_seconds(e[:2]), e.label) for e in events] or [(name, "", "", "")])
        ]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_table(str(self.path), HEADER, rows)


def _seconds(times: tuple[float, float]) -> tuple[str, str]:
    """In milliseconds: no frame is that short."""
    onset, offset = times
    return f"{onset:.3f}", f"{offset:.3f}"
