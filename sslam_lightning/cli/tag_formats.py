"""How ``sslam tag`` tells what it heard, one recording at a time."""

from __future__ import annotations

import csv
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, TextIO

import numpy as np

from sslam_lightning.inference.sources import legible
from sslam_lightning.inference.tag import Tagged

_TIMELINE_CLASSES = 3  # of a window, on a terminal


class Report(ABC):
    """Writes to a stream.

    Args:
        stream: where to.
        class_names: in the order of the probabilities.
        top: how many classes to tell.
    """

    def __init__(self, stream: TextIO, class_names: Sequence[str], top: int) -> None:
        self.stream, self.class_names, self.top = stream, class_names, top

    @abstractmethod
    def write(self, tagged: Tagged) -> None:
        """Add one recording."""

    def told(self, tagged: Tagged) -> dict[str, Any]:
        """A recording as plain data."""
        told: dict[str, Any] = {
            "file": tagged.name,
            "seconds": round(tagged.seconds, 4),
            "tags": self._tags(tagged.probabilities),
        }
        if len(tagged.timeline) > 1:
            spans = zip(tagged.starts_seconds, tagged.stops_seconds, tagged.timeline, strict=True)
            told["timeline"] = [
                {"start_seconds": round(start, 4), "stop_seconds": round(stop, 4), "tags": self._tags(row)}
                for start, stop, row in spans
            ]
        return told

    def _tags(self, probabilities: np.ndarray) -> list[dict[str, Any]]:
        return [{"class": name, "probability": round(p, 6)} for _, name, p in self.best(probabilities)]

    def best(self, probabilities: np.ndarray, top: int | None = None) -> list[tuple[int, str, float]]:
        """Number, name and probability of the most probable classes; of equal ones, the first."""
        order = np.argsort(-probabilities, kind="stable")[: top or self.top]
        return [(int(number), self.class_names[number], float(probabilities[number])) for number in order]


class Table(Report):
    """For people."""

    def write(self, tagged: Tagged) -> None:
        """A block of lines; of long recordings, with peaks and a timeline."""
        lines = [f"{tagged.name}  ({_clock(tagged.seconds)})"]
        if len(tagged.timeline) == 1:
            lines += [f"  {probability:.3f}  {name}" for _, name, probability in self.best(tagged.probabilities)]
        else:
            lines.append(f"  {'mean':>5}  {'peak':>5}  {'at':>9}  class")
            for number, name, probability in self.best(tagged.probabilities):
                peak = int(tagged.timeline[:, number].argmax())
                at = _clock(tagged.starts_seconds[peak])
                lines.append(f"  {probability:.3f}  {tagged.timeline[peak, number]:.3f}  {at:>9}  {name}")
            for start, row in zip(tagged.starts_seconds, tagged.timeline, strict=True):
                told = ", ".join(f"{name} {p:.2f}" for _, name, p in self.best(row, min(self.top, _TIMELINE_CLASSES)))
                lines.append(f"  {_clock(start):>9}  {told}")
        print("\n".join(lines), file=self.stream, flush=True)


class JSONLines(Report):
    """For programs: an object per recording and line."""

    def write(self, tagged: Tagged) -> None:
        """One line."""
        print(json_line(self.told(tagged)), file=self.stream, flush=True)


class CSV(Report):
    """For spreadsheets: rows of the whole recording, then those of its windows, where there are several."""

    def __init__(self, stream: TextIO, class_names: Sequence[str], top: int) -> None:
        super().__init__(stream, class_names, top)
        self._rows = csv.writer(stream, lineterminator="\n")
        self._rows.writerow(["file", "part", "start_seconds", "stop_seconds", "rank", "class", "probability"])

    def write(self, tagged: Tagged) -> None:
        """The rows of one recording."""
        self.write_told(self.told(tagged))

    def write_told(self, told: dict[str, Any]) -> None:
        """The same of plain data."""
        whole = {"start_seconds": 0.0, "stop_seconds": told["seconds"], "tags": told["tags"]}
        for part, spans in (("recording", [whole]), ("window", told.get("timeline", []))):
            for span in spans:
                place = [told["file"], part, f"{span['start_seconds']:.4f}", f"{span['stop_seconds']:.4f}"]
                for rank, tag in enumerate(span["tags"], start=1):
                    self._rows.writerow([*place, rank, tag["class"], f"{tag['probability']:.6f}"])
        self.stream.flush()


def _clock(seconds: float) -> str:
    """1:02:03.4"""
    tenths = round(seconds * 10)
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    clock = f"{minutes:02d}:{tenths // 10:02d}.{tenths % 10}" if hours else f"{minutes}:{tenths // 10:02d}.{tenths % 10}"
    return f"{hours}:{clock}" if hours else clock


def json_line(told: dict[str, Any]) -> str:
    r"""Plain data as JSON: readable, but bytes of a file's name that are not UTF-8 as ``\udcXX``, since JSON has to be."""
    return legible(json.dumps(told, ensure_ascii=False))
