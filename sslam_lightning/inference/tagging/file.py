"""``sslam tag --out``: what was heard, in a file, and an interrupted run that goes on.

Until all is done, X.csv.unfinished holds a first line about the run and then one JSON line per recording, written when it
is through. So what is done is the number of whole lines, and a line cut short is made anew.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from sslam_lightning.inference import plot
from sslam_lightning.inference.embed import digest_of_files, digest_of_weights
from sslam_lightning.inference.encoding import EncoderModel
from sslam_lightning.inference.model import AudioModel
from sslam_lightning.inference.row_store import check_same_run
from sslam_lightning.inference.sources import Source
from sslam_lightning.inference.tagging.formats import Report, as_plain
from sslam_lightning.inference.tagging.tag import Tagged, Unreadable
from sslam_lightning.inference.windowing import Windows
from sslam_lightning.runtime.atomic_write import replacing
from sslam_lightning.runtime.lock import append_whole, held_file

_ENDINGS = (".csv", ".jsonl")


class TagFile:
    """A file of tags that is being made, by one process at a time.

    Args:
        target: ends in .csv or .jsonl, and must not exist.
        settings: everything that the tags depend on.

    Raises:
        FileExistsError: the target exists, or what bears the unfinished file's name is none.
        OSError: another process is making it.
        ValueError: another ending, or what lies there is of a run with other settings.
    """

    def __init__(self, target: Path, settings: Mapping[str, Any]) -> None:
        check_target(target)
        self.target, self.unfinished = target, target.with_name(target.name + ".unfinished")
        self.target.parent.mkdir(parents=True, exist_ok=True)
        self._file = held_file(str(self.unfinished))
        try:
            if self.unfinished.stat().st_size:
                check_same_run(self.unfinished, self._settings_before(), settings)
                self._drop_what_is_cut_short()
            else:
                self._append(settings)
        except BaseException:
            self.close()
            raise
        self.num_done = sum(1 for _ in self._lines()) - 1

    def add(self, told: Mapping[str, Any]) -> None:
        self._append(told)

    def finish(self) -> None:
        """Write the file itself, without the recordings that could not be read."""
        with replacing(self.target) as file:
            text = io.TextIOWrapper(file, "utf-8", errors="surrogateescape", newline="")
            report = Report(text, 0, "csv" if self.target.suffix == ".csv" else "json")
            for told in self._told():
                if "unreadable" not in told:
                    report.write_told(told)
            text.flush()
            text.detach()  # the file is closed by who opened it
            check_target(self.target)
        self.remove()

    def remove(self) -> None:
        self.unfinished.unlink()

    def close(self) -> None:
        self._file.close()

    def broken(self) -> list[tuple[str, str]]:
        """Names and reasons of what could not be read, in this run or before."""
        return [(told["file"], told["unreadable"]) for told in self._told() if "unreadable" in told]

    def _told(self) -> Iterator[dict[str, Any]]:
        lines = self._lines()
        next(lines)
        return (json.loads(line) for line in lines)

    def _lines(self) -> Iterator[str]:
        with self.unfinished.open(encoding="utf-8", errors="surrogateescape") as file:
            yield from file

    def _append(self, told: Mapping[str, Any]) -> None:
        append_whole(self._file, json.dumps(told).encode() + b"\n", str(self.unfinished))

    def _settings_before(self) -> dict[str, Any]:
        line = next(self._lines())
        try:
            before = json.loads(line) if line.endswith("\n") else None
        except (ValueError, RecursionError):
            before = None
        if not isinstance(before, dict) or not before.keys() >= {"weights", "recordings"}:
            raise FileExistsError(
                f"{self.unfinished} is no unfinished file of sslam tag: move it, or name another file with --out"
            )
        return before

    def _drop_what_is_cut_short(self) -> None:
        end = 0
        with self.unfinished.open("rb") as file:
            while file.readline().endswith(b"\n"):
                end = file.tell()
        os.truncate(self.unfinished, end)


def check_target(target: Path) -> None:
    if target.suffix not in _ENDINGS:
        raise ValueError(f"the file to write must end in {' or '.join(_ENDINGS)}, got {target}")
    if target.exists():
        raise FileExistsError(f"{target} exists already: move it, or name another file with --out")


def settings_of_tags(model: EncoderModel, windows: Windows, sources: Sequence[Source], top: int) -> dict[str, Any]:
    """Everything that the tags of a run depend on."""
    return {
        "weights": digest_of_weights(model),
        **model.settings(),
        "windows": list(windows),
        "bf16": model.bf16,
        "top": top,
        "recordings": digest_of_files(sources),
    }


def write_each(
    recordings: Iterable[Tagged | Unreadable],
    model: EncoderModel,
    top: int,
    show: Callable[[Tagged], Any],
    file: TagFile | None,
    pictures: Mapping[str, Path],
    progress: Callable[[int], Any],
) -> list[tuple[str, str]]:
    """Show what is heard in each recording, write and draw it; returns what could not be read, in earlier runs too."""
    broken = []
    for found in recordings:
        progress(1)
        if isinstance(found, Unreadable):
            broken.append((found.name, found.reason))
            if file:
                file.add({"file": found.name, "unreadable": found.reason})
            continue
        if pictures:
            plot.draw_timeline(found, found.path, cast(AudioModel, model), pictures[found.name], top)
        if file:
            file.add(as_plain(found, top))
        show(found)
    return file.broken() if file else broken
