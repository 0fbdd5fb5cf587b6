"""Rows of embeddings on disk while a run goes on, so that it can be resumed and memory stays bounded.

Beside the target ``X.npz`` stands the folder ``X.npz.parts``: ``settings.json`` (what was asked of whom) and numbered
parts, each written under another name and then renamed. A part holds *stretches* of rows, in the order of the recordings.
A recording is finished when a stretch says so; a stretch that begins with row 0 takes the place of what an interrupted run
left of the same recording. When all is done the parts become the target, renamed into place too, and the folder goes.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sslam_lightning.data.durable import append_whole, held_file
from sslam_lightning.whole_file import replacing

_PART_BYTES = 16 << 20
_PART_SECONDS = 60.0  # what an interruption loses at most, besides the recording under way
_PART_STRETCHES = 4096


class Stretch(NamedTuple):
    """Rows of one recording, from ``first_row`` on."""

    source: int
    first_row: int
    num_rows: int
    seconds: float  # of the whole recording with its last stretch; negative before
    reason: str  # why it cannot be read; else empty


class Parts:
    """The folder of one run, of one process at a time.

    Args:
        target: the file that the parts will become.
        settings: everything that the rows depend on.

    Raises:
        FileExistsError: the target exists.
        OSError: another process works in the folder.
        ValueError: the folder is of a run with other settings; names the first that differs.
    """

    def __init__(self, target: Path, settings: Mapping[str, Any]) -> None:
        self.folder = target.with_name(target.name + ".parts")
        if target.exists():
            raise FileExistsError(f"{target} exists already: move it, or name another file with --out")
        settings = json.loads(json.dumps(settings))
        told = self.folder / "settings.json"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._held = held_file(str(told))
        try:
            if told.stat().st_size:
                check_same_run(self.folder, json.loads(told.read_text()), settings)
            else:
                append_whole(self._held, json.dumps(settings, indent=1).encode(), str(told))
        except BaseException:
            self.close()
            raise
        self._stretches: list[Stretch] = []
        self._block, self._num_rows = np.zeros((0,)), 0
        self._since = time.monotonic()
        self._num_parts = len(self._paths())
        self.num_finished = 1 + max((s.source for s in self.stretches() if s.seconds >= 0 or s.reason), default=-1)

    def add(self, source: int, first_row: int, rows: np.ndarray, seconds: float = -1.0) -> None:
        """Append rows of a recording; with the last ones, its length."""
        self._append(Stretch(source, first_row, len(rows), seconds, ""), rows)

    def add_broken(self, source: int, reason: str) -> None:
        """Note that a recording cannot be read; its earlier rows do not count."""
        self._append(Stretch(source, 0, 0, -1.0, reason), None)

    def flush(self) -> None:
        """Write down what is in memory."""
        if self._stretches:
            path = self.folder / f"{self._num_parts:06d}.npz"
            num_rows = sum(stretch.num_rows for stretch in self._stretches)  # not a row that an interrupt came behind
            rows = {"rows": self._block[:num_rows]} if num_rows else {}
            with replacing(path) as file:
                np.savez(file, allow_pickle=False, stretches=np.array(json.dumps(self._stretches)), **rows)
            self._num_parts += 1
        self._stretches, self._num_rows = [], 0
        self._since = time.monotonic()

    def stretches(self) -> Iterator[Stretch]:
        """Of the parts on disk, in order; also those that a later one replaces."""
        for path in self._paths():
            with np.load(path) as part:
                yield from (Stretch(*told) for told in json.loads(part["stretches"].item()))

    def blocks(self) -> Iterator[tuple[list[Stretch], np.ndarray]]:
        """Stretches that count, with all their rows, in order; one part in memory at a time."""
        left_out = self._left_out()
        number = 0
        for path in self._paths():
            with np.load(path) as part:
                told = [Stretch(*stretch) for stretch in json.loads(part["stretches"].item())]
                rows = part["rows"] if "rows" in part else np.zeros((0,))
            counts = np.array([number + place not in left_out for place in range(len(told))])
            number += len(told)
            kept = [stretch for stretch, count in zip(told, counts, strict=True) if count]
            if len(kept) == len(told):
                yield kept, rows
            elif kept:
                yield kept, rows[np.repeat(counts, [stretch.num_rows for stretch in told])]

    def broken(self) -> Iterator[tuple[int, str]]:
        """Recordings that cannot be read, and why."""
        return ((stretch.source, stretch.reason) for stretch in self.stretches() if stretch.reason)

    def _left_out(self) -> set[int]:
        """Numbers of the stretches that do not count: begun by an interrupted run, or of a broken recording."""
        left_out: set[int] = set()
        open_ones: list[int] = []
        for number, stretch in enumerate(self.stretches()):
            if stretch.first_row == 0:  # whatever is still open will never be finished
                left_out.update(open_ones)
                open_ones = []
            if stretch.reason:
                left_out.add(number)
            else:
                open_ones.append(number)
            if stretch.seconds >= 0:
                open_ones = []
        left_out.update(open_ones)
        return left_out

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder)

    def close(self) -> None:
        """Let another process go on."""
        self._held.close()

    def _append(self, stretch: Stretch, rows: np.ndarray | None) -> None:
        if rows is not None and len(rows):
            self._keep(rows)
        self._stretches.append(stretch)
        late = time.monotonic() - self._since > _PART_SECONDS
        if late or 0 < self._num_rows == len(self._block) or len(self._stretches) >= _PART_STRETCHES:
            self.flush()

    def _keep(self, rows: np.ndarray) -> None:
        """Rows side by side in one block: thousands of small ones would each pin the memory around it."""
        if self._num_rows + len(rows) > len(self._block):
            self.flush()
            capacity = max(len(rows), _PART_BYTES // rows[0].nbytes)
            if capacity > len(self._block):
                self._block = np.empty((capacity, *rows.shape[1:]), rows.dtype)
        self._block[self._num_rows : self._num_rows + len(rows)] = rows
        self._num_rows += len(rows)

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*.npz"))


def check_same_run(place: Path, before: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Refuse to go on with a run that was begun with other settings.

    Raises:
        ValueError: naming the first that differs.
    """
    for name in settings:
        if before.get(name) != settings[name]:
            raise ValueError(
                f"{place} is of a run with another {name} ({before.get(name)}, now {settings[name]}): run it again as it "
                "was, remove it, or name another file with --out"
            )
