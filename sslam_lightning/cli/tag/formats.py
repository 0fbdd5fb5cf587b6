"""How ``sslam tag`` tells what it heard: a recording as plain data, and that as JSON, CSV or a table for people."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from typing import Any, Literal, TextIO

import numpy as np

from sslam_lightning.inference.sources import legible
from sslam_lightning.inference.tag import Tagged

_TIMELINE_CLASSES = 3  # of a window, on a terminal
_CSV_COLUMNS = ("file", "part", "start_seconds", "stop_seconds", "rank", "class", "probability")


class Report:
    """Writes tags to a stream, one recording at a time.

    Args:
        stream: where to.
        class_names: in the order of the probabilities.
        top: how many classes to tell.
        form: one JSON object per line, CSV rows, or a table for people.
    """

    def __init__(
        self, stream: TextIO, class_names: Sequence[str], top: int, form: Literal["json", "csv", "table"] = "table"
    ) -> None:
        self.stream, self.class_names, self.top, self.form = stream, class_names, top, form
        if form == "csv":
            csv.writer(stream, lineterminator="\n").writerow(_CSV_COLUMNS)

    def write(self, tagged: Tagged) -> None:
        """Add one recording."""
        if self.form == "table":
            print("\n".join(self._lines(tagged)), file=self.stream, flush=True)
        else:
            self.write_told(self.told(tagged))

    def write_told(self, told: dict[str, Any]) -> None:
        """Add one recording that is plain data, as JSON or CSV; its windows, where there are several, follow the whole."""
        if self.form == "json":
            # readable, but bytes of a file's name that are not UTF-8 as ``\\udcXX``, since JSON has to be UTF-8
            print(legible(json.dumps(told, ensure_ascii=False)), file=self.stream, flush=True)
            return
        rows = csv.writer(self.stream, lineterminator="\n")
        whole = {"start_seconds": 0.0, "stop_seconds": told["seconds"], "tags": told["tags"]}
        for part, spans in (("recording", [whole]), ("window", told.get("timeline", []))):
            for span in spans:
                place = [told["file"], part, f"{span['start_seconds']:.4f}", f"{span['stop_seconds']:.4f}"]
                for rank, tag in enumerate(span["tags"], start=1):
                    rows.writerow([*place, rank, tag["class"], f"{tag['probability']:.6f}"])
        self.stream.flush()

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
        return [{"class": name, "probability": round(p, 6)} for _, name, p in self._best(probabilities, self.top)]

    def _best(self, probabilities: np.ndarray, top: int) -> list[tuple[int, str, float]]:
        """Number, name and probability of the most probable classes; of equal ones, the first."""
        order = np.argsort(-probabilities, kind="stable")[:top]
        return [(int(number), self.class_names[number], float(probabilities[number])) for number in order]

    def _lines(self, tagged: Tagged) -> list[str]:
        """A block of a table; of long recordings, with peaks and a timeline."""
        lines, best = [f"{tagged.name}  ({_clock(tagged.seconds)})"], self._best(tagged.probabilities, self.top)
        if len(tagged.timeline) == 1:
            return [*lines, *(f"  {probability:.3f}  {name}" for _, name, probability in best)]
        lines.append(f"  {'mean':>5}  {'peak':>5}  {'at':>9}  class")
        for number, name, probability in best:
            peak = int(tagged.timeline[:, number].argmax())
            at = _clock(tagged.starts_seconds[peak])
            lines.append(f"  {probability:.3f}  {tagged.timeline[peak, number]:.3f}  {at:>9}  {name}")
        for start, row in zip(tagged.starts_seconds, tagged.timeline, strict=True):
            told = ", ".join(f"{name} {p:.2f}" for _, name, p in self._best(row, min(self.top, _TIMELINE_CLASSES)))
            lines.append(f"  {_clock(start):>9}  {told}")
        return lines


def _clock(seconds: float) -> str:
    """1:02:03.4"""
    tenths = round(seconds * 10)
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    clock = f"{minutes:02d}:{tenths // 10:02d}.{tenths % 10}" if hours else f"{minutes}:{tenths // 10:02d}.{tenths % 10}"
    return f"{hours}:{clock}" if hours else clock
