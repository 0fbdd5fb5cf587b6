"""ESC-50, environmental sounds (Piczak, ACM Multimedia 2015): 2000 clips of 5 s, 50 classes, 5 fixed folds."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, NamedTuple

from sslam_lightning.data.dataset import RecordingDataset
from sslam_lightning.data.download import download_and_unpack
from sslam_lightning.data.layout import expect_files_of
from sslam_lightning.data.module import AudioDataModule, Split
from sslam_lightning.data.recordings import make_recordings

ARCHIVE_URL = "https://github.com/karolpiczak/ESC-50/archive/refs/heads/master.zip"

_TABLE = "meta/esc50.csv"


class _Row(NamedTuple):
    filename: str
    fold: int
    target: int
    category: str


class ESC50DataModule(AudioDataModule):
    """ESC-50 in its official layout, ``audio/`` and ``meta/esc50.csv``. Classes: the targets in the table, ascending.

    Args:
        root: folder of the data set.
        fold: train on the other folds, validate and test on this one; None: train on all, for pre-training.
        download: fetch the data set (600 MB) where the folder does not exist.
        esc10: only the rows of the ESC-10 subset.
        options: settings of `AudioDataModule`.

    Raises:
        FileNotFoundError: no table, or a file of the table does not exist.
        ValueError: a table of another form, or without this fold.
    """

    def __init__(
        self, root: str | Path, fold: int | None = 1, download: bool = False, esc10: bool = False, **options: Any
    ) -> None:
        root = Path(root)
        table = root / _TABLE
        if download and not table.is_file():
            download_and_unpack(ARCHIVE_URL, root, _TABLE)
        rows = _read_table(table, esc10)
        folds = sorted({row.fold for row in rows})
        if fold is not None and fold not in folds:
            raise ValueError(f"{table} has the folds {', '.join(map(str, folds))}, not fold {fold}")
        category = _categories(table, rows)
        expect_files_of(table, root / "audio", [row.filename for row in rows])
        super().__init__(class_names=tuple(category.values()), multi_label=False, **options)
        self.root = root
        self.fold = fold
        self._rows = rows
        self._class_of_target = {target: index for index, target in enumerate(category)}

    def make_dataset(self, split: Split) -> RecordingDataset | None:
        """The rows of the other folds for training, those of the fold for validation and test."""
        if split != "train" and self.fold is None:
            return None
        rows = [row for row in self._rows if (row.fold == self.fold) == (split != "train")]
        if not rows:
            raise ValueError(f"{self.root / _TABLE} has no fold but {self.fold}, so nothing is left to train on")
        recordings = make_recordings(
            str(self.root / "audio"),
            [row.filename for row in rows],
            [[self._class_of_target[row.target]] for row in rows],
            self.class_names,
        )
        return RecordingDataset(recordings, self.sample_rate_hz, self.resampler, self.max_clip_seconds)


def _read_table(table: Path, esc10: bool) -> list[_Row]:
    if not table.is_file():
        root = table.parent.parent
        raise FileNotFoundError(
            f"{table} does not exist: ESC-50 is expected as {root}/audio/ and {root}/{_TABLE}; "
            "download: true fetches it into a folder that does not exist yet"
        )
    with table.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        needed = [*_Row._fields, "esc10"] if esc10 else list(_Row._fields)
        absent = [column for column in needed if column not in (reader.fieldnames or ())]
        if absent:
            raise ValueError(f"{table}: no column {', '.join(absent)} among {', '.join(reader.fieldnames or ())}")
        rows = []
        for row in reader:
            try:
                parsed = _Row(row["filename"], int(row["fold"]), int(row["target"]), row["category"])
            except (TypeError, ValueError):
                raise ValueError(f"{table}, line {reader.line_num}: fold and target must be whole numbers") from None
            if not esc10 or str(row["esc10"]).strip().lower() == "true":
                rows.append(parsed)
    if not rows:
        raise ValueError(f"{table}: no rows" + (" of the ESC-10 subset" if esc10 else ""))
    return rows


def _categories(table: Path, rows: list[_Row]) -> dict[int, str]:
    """Names of the targets, ascending."""
    category: dict[int, str] = {}
    for row in rows:
        if category.setdefault(row.target, row.category) != row.category:
            raise ValueError(f"{table}: target {row.target} is called {category[row.target]} and {row.category}")
    return dict(sorted(category.items()))
