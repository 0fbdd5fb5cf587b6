"""Rows of embeddings on disk while a run is under way, so that it can be resumed and memory stays bounded.

Next to the target ``X.npz`` is the folder ``X.npz.parts``. Rows are appended to ``rows.f4`` as they are computed; a line of
``progress.jsonl`` says how many of them a finished recording has. What an interrupted run has written of an unfinished
recording is cut off when the run is resumed.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sslam_lightning.data.progress_log import Journal
from sslam_lightning.runtime.atomic_write import refuse_existing

_BYTES = 4  # of a float32


class Finished(NamedTuple):
    """A recording of which nothing more will come."""

    num_rows: int
    row_shape: list[int]
    seconds: float
    reason: str = ""  # why it cannot be read; else empty


class RowStore:
    """The folder of one run, used by one process at a time.

    Args:
        target: the file that the rows will become.
        settings: everything that the rows depend on.

    Raises:
        FileExistsError: the target exists.
        OSError: another process works in the folder.
        ValueError: the folder is of a run with other settings; names the first that differs.
    """

    def __init__(self, target: Path, settings: dict[str, Any]) -> None:
        refuse_existing(str(target))
        self.folder = target.with_name(target.name + ".parts")
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = json.loads(json.dumps(settings))
        progress = self.folder / "progress.jsonl"
        if progress.exists() and (lines := progress.read_text().splitlines()):
            check_same_run(self.folder, json.loads(lines[0]), settings)
        self._progress = Journal(str(progress), settings)
        refuse_existing(str(target))  # made by a run that this one has waited for
        self.path = self.folder / "rows.f4"
        self._rows = self.path.open("ab")
        self.row_shape: list[int] = []  # empty before the first row
        self._num_rows = 0  # of the recording under way
        self._end = 0  # bytes of the finished recordings
        for done in self.finished():
            self.row_shape = done.row_shape or self.row_shape
            self._end += done.num_rows * math.prod(done.row_shape) * _BYTES
        if self._rows.tell() < self._end:
            raise ValueError(f"{self.path} is shorter than {progress} says: remove {self.folder} and run it again")
        self._rows.truncate(self._end)

    @property
    def num_finished(self) -> int:
        """Recordings, readable or not, that this run or an earlier one is through with."""
        return self._progress.num_done

    def append(self, rows: np.ndarray) -> None:
        """Append rows to the recording under way."""
        self._rows.write(np.ascontiguousarray(rows, "<f4").data)
        self.row_shape, self._num_rows = list(rows.shape[1:]), self._num_rows + len(rows)

    def finish(self, seconds: float) -> None:
        """End the recording under way."""
        self._rows.flush()
        self._progress.append(Finished(self._num_rows, self.row_shape, seconds))
        self._end += self._num_rows * math.prod(self.row_shape) * _BYTES
        self._num_rows = 0

    def drop(self, reason: str) -> None:
        """Note that the recording under way cannot be read, and forget its rows."""
        self._rows.truncate(self._end)
        self._progress.append(Finished(0, [], 0.0, reason))
        self._num_rows = 0

    def finished(self) -> Iterator[Finished]:
        """All recordings so far, in order."""
        return (Finished(*result) for result in self._progress.results())

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder)

    def close(self) -> None:
        """Let another process resume."""
        self._rows.close()
        self._progress.close()


def check_same_run(path: Path, before: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Refuse to resume a run that was begun with other settings.

    Raises:
        ValueError: naming the first that differs.
    """
    for name in settings:
        if before.get(name) != settings[name]:
            raise ValueError(
                f"{path} is of a run with another {name} ({before.get(name)}, now {settings[name]}): run it again as it "
                "was, remove it, or name another file with --out"
            )
