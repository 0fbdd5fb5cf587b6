"""ESC-50, environmental sounds (Piczak, ACM Multimedia 2015): 2000 clips of 5 s, 50 classes, 5 fixed folds."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from sslam_lightning.data.download import download_and_unpack
from sslam_lightning.data.manifests.check_layout import expect_file, expect_files_of
from sslam_lightning.data.manifests.segments import Segment
from sslam_lightning.data.manifests.tables import read_columns
from sslam_lightning.data.modules.base import Split
from sslam_lightning.data.modules.labeled import LabeledClip, LabeledDataModule

ARCHIVE_URL = "https://github.com/karolpiczak/ESC-50/archive/refs/heads/master.zip"

_TABLE = "meta/esc50.csv"


class _Row(NamedTuple):
    filename: str
    fold: int
    target: int
    category: str


class ESC50DataModule(LabeledDataModule):
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
        self.table, audio = Path(root, _TABLE), Path(root, "audio")
        if download and not self.table.is_file():
            download_and_unpack(ARCHIVE_URL, Path(root), _TABLE)
        form = f"ESC-50 is expected as {audio}/ and {self.table}; download: true fetches it into a new folder"
        self._rows = _read_table(expect_file(self.table, form), esc10)
        folds = sorted({row.fold for row in self._rows})
        if fold is not None and fold not in folds:
            raise ValueError(f"{self.table} has the folds {', '.join(map(str, folds))}, not fold {fold}")
        category: dict[int, str] = {}
        for row in self._rows:
            if category.setdefault(row.target, row.category) != row.category:
                raise ValueError(f"{self.table}: target {row.target} is called {category[row.target]} and {row.category}")
        expect_files_of(self.table, audio, [row.filename for row in self._rows])
        super().__init__(audio, [category[target] for target in sorted(category)], multi_label=False, **options)
        self.fold = fold

    def labeled(self, split: Split) -> list[LabeledClip] | None:
        if split != "train" and self.fold is None:
            return None
        rows = [row for row in self._rows if (row.fold == self.fold) == (split != "train")]
        if not rows:
            raise ValueError(f"{self.table} has no fold but {self.fold}, so nothing is left to train on")
        return [LabeledClip(Segment(row.filename), [row.category]) for row in rows]


def _read_table(table: Path, esc10: bool) -> list[_Row]:
    rows = []
    columns = [*_Row._fields, *["esc10"] * esc10]
    for line, (filename, fold, target, category, *is_esc10) in read_columns(table, [[name] for name in columns]):
        try:
            parsed = _Row(filename, int(fold), int(target), category)
        except ValueError:
            raise ValueError(f"{table}, line {line}: fold and target must be whole numbers") from None
        if not esc10 or is_esc10[0].lower() == "true":
            rows.append(parsed)
    if not rows:
        raise ValueError(f"{table}: no rows" + (" of the ESC-10 subset" if esc10 else ""))
    return rows
