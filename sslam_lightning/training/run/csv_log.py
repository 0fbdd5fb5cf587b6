"""The log as one table from the first process of a run to the last, however often it is resumed."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.utilities import rank_zero_only

from sslam_lightning.runtime.atomic_write import replacing


class CSVRun(CSVLogger):
    """Goes on with the table that a run has, and logs nothing twice.

    A process that is killed has logged more than its last checkpoint knows of. The one that resumes from there comes by
    the same steps again: what the table already holds of them is left out.

    Args:
        save_dir: the run's folder.
        name: of the folder in it that holds ``version_N/metrics.csv``.
        resume: go on with the newest table instead of beginning another; set by the command line.
    """

    def __init__(self, save_dir: str | Path, name: str = "logs", resume: bool = False) -> None:
        super().__init__(save_dir, name=name)
        if resume:
            self._version = max(0, self._get_next_version() - 1)

    @property
    @rank_zero_only
    def experiment(self) -> Any:
        if self._experiment is None:
            self._experiment = _Table(self.log_dir)
        return self._experiment


class _Table(ExperimentWriter):
    def __init__(self, log_dir: str) -> None:
        self._known = set[tuple[int, str]]()
        super().__init__(log_dir)

    def log_metrics(self, metrics_dict: dict[str, float], step: int | None = None) -> None:
        new = {name for name in metrics_dict if (step, name) not in self._known} - {"epoch"}
        if new:
            super().log_metrics({name: metrics_dict[name] for name in metrics_dict if name in {*new, "epoch"}}, step)

    def _check_log_dir_exists(self) -> None:
        """Lightning's would delete the table that is there."""
        table = Path(self.metrics_file_path)
        if not table.is_file():
            return
        content = table.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:  # a killed process has left half a row
            with replacing(table) as file:
                file.write(whole)
        with table.open(newline="") as file:
            rows = csv.DictReader(file)
            self.metrics_keys = list(rows.fieldnames or ())
            self._known = {(int(row["step"]), name) for row in rows for name, value in row.items() if value}

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        """A kill in the middle of it leaves the old table."""
        table = Path(self.metrics_file_path)
        with table.open(newline="") as file:
            rows = list(csv.DictReader(file))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, fieldnames=fieldnames)
        writer.writeheader()
        writer.writerows(rows)
        with replacing(table) as file:
            file.write(text.getvalue().encode())
