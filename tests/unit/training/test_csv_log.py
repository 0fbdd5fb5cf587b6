from __future__ import annotations

import csv
from pathlib import Path

import pytest

from sslam_lightning.training.run.csv_log import CSVRun


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "logs/version_0/metrics.csv").open(newline="") as file:
        return [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]


def log(folder: Path, *entries: tuple[int, dict[str, float]], resume: bool = False) -> CSVRun:
    logger = CSVRun(folder, resume=resume)
    for step, metrics in entries:
        logger.log_metrics(metrics, step)
        logger.save()
    return logger


def test_a_resumed_run_fills_in_what_is_missing(tmp_path: Path) -> None:
    log(tmp_path, (0, {"loss": 1.0, "epoch": 0}), (1, {"loss": 2.0, "epoch": 0}))
    log(
        tmp_path, (1, {"loss": 2.0, "epoch": 0}), (1, {"val": 5.0, "epoch": 0}), (2, {"loss": 3.0, "epoch": 1}), resume=True
    )
    assert rows(tmp_path) == [
        {"step": "0", "loss": "1.0", "epoch": "0"},
        {"step": "1", "loss": "2.0", "epoch": "0"},
        {"step": "1", "val": "5.0", "epoch": "0"},
        {"step": "2", "loss": "3.0", "epoch": "1"},
    ]
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["version_0"]


def test_half_a_row_is_written_anew(tmp_path: Path) -> None:
    log(tmp_path, (0, {"loss": 1.0}), (1, {"loss": 2.25}))
    table = tmp_path / "logs/version_0/metrics.csv"
    table.write_bytes(table.read_bytes()[:-3])
    log(tmp_path, (1, {"loss": 2.25}), resume=True)
    assert rows(tmp_path) == [{"step": "0", "loss": "1.0"}, {"step": "1", "loss": "2.25"}]


def test_a_new_name_that_is_interrupted_leaves_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log(tmp_path, (0, {"loss": 1.0}))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        log(tmp_path, (1, {"val": 2.0}), resume=True)
    assert rows(tmp_path) == [{"step": "0", "loss": "1.0"}]


def test_another_run_begins_another_table(tmp_path: Path) -> None:
    log(tmp_path, (0, {"loss": 1.0}))
    assert log(tmp_path).version == 1
    assert log(tmp_path / "new", resume=True).version == 0
