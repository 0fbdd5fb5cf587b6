"""How ``sslam tag`` tells what it heard: a recording as plain data, and that as JSON, CSV or a table for people."""

from __future__ import annotations

import csv
import json
from typing import Any, Literal, TextIO

import numpy as np
from jaxtyping import Float

from sslam_lightning.inference.sources import legible
from sslam_lightning.inference.tagging.tag import Tagged, most_probable

_TIMELINE_CLASSES = 3  # of a window, on a terminal
_CSV_COLUMNS = ("file", "part", "start_seconds", "stop_seconds", "rank", "class", "probability")


class Report:
    """Writes tags to a stream, one recording at a time.

    Args:
        stream: where to.
        top: how many classes to tell.
        form: one JSON object per line, CSV rows, or a table for people.
    """

    def __init__(self, stream: TextIO, top: int, form: Literal["json", "csv", "table"] = "table") -> None:
        self.stream, self.top, self.form = stream, top, form
        self._has_head = form != "csv"

    def write(self, tagged: Tagged) -> None:
        """Add one recording."""
        if self.form == "table":
            print("\n".join(self._lines(tagged)), file=self.stream, flush=True)
        else:
            self.write_told(as_plain(tagged, self.top))

    def write_told(self, told: dict[str, Any]) -> None:
        """Add one recording that is plain data, as JSON or CSV; its windows, where there are several, follow the whole."""
        if self.form == "json":
            # readable, but bytes of a file's name that are not UTF-8 as ``\\udcXX``, since JSON has to be UTF-8
            print(legible(json.dumps(told, ensure_ascii=False)), file=self.stream, flush=True)
            return
        rows = csv.writer(self.stream, lineterminator="\n")
        if not self._has_head:
            rows.writerow(_CSV_COLUMNS)
            self._has_head = True
        whole = {"start_seconds": 0.0, "stop_seconds": told["seconds"], "tags": told["tags"]}
        for part, spans in (("recording", [whole]), ("window", told.get("timeline", []))):
            for span in spans:
                place = [told["file"], part, f"{span['start_seconds']:.4f}", f"{span['stop_seconds']:.4f}"]
                for rank, tag in enumerate(span["tags"], start=1):
                    rows.writerow([*place, rank, tag["class"], f"{tag['probability']:.6f}"])
        self.stream.flush()

    def _lines(self, tagged: Tagged) -> list[str]:
        """A block of a table; of long recordings, with peaks and a timeline."""
        lines = [f"{tagged.name}  ({_clock(tagged.seconds)})"]
        best = most_probable(tagged.probs, tagged.class_names, self.top)
        if len(tagged.timeline) == 1:
            return [*lines, *(f"  {probability:.3f}  {name}" for _, name, probability in best)]
        lines.append(f"  {'mean':>5}  {'peak':>5}  {'at':>9}  class")
        for number, name, probability in best:
            peak = int(tagged.timeline[:, number].argmax())
            at = _clock(tagged.starts_seconds[peak])
            lines.append(f"  {probability:.3f}  {tagged.timeline[peak, number]:.3f}  {at:>9}  {name}")
        for start, row in zip(tagged.starts_seconds, tagged.timeline, strict=True):
            shown = most_probable(row, tagged.class_names, min(self.top, _TIMELINE_CLASSES))
            told = ", ".join(f"{name} {prob:.2f}" for _, name, prob in shown)
            lines.append(f"  {_clock(start):>9}  {told}")
        return lines


def as_plain(tagged: Tagged, top: int) -> dict[str, Any]:
    """A recording as plain data: its most probable classes and, where there are several windows, those of each."""

    def tags(probs: Float[np.ndarray, "classes"]) -> list[dict[str, Any]]:
        best = most_probable(probs, tagged.class_names, top)
        return [{"class": name, "probability": round(prob, 6)} for _, name, prob in best]

    plain: dict[str, Any] = {"file": tagged.name, "seconds": round(tagged.seconds, 4), "tags": tags(tagged.probs)}
    if len(tagged.timeline) > 1:
        spans = zip(tagged.starts_seconds, tagged.stops_seconds, tagged.timeline, strict=True)
        plain["timeline"] = [
            {"start_seconds": round(start, 4), "stop_seconds": round(stop, 4), "tags": tags(row)}
            for start, stop, row in spans
        ]
    return plain


def _clock(seconds: float) -> str:
    """1:02:03.4"""
    tenths = round(seconds * 10)
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    clock = f"{minutes:02d}:{tenths // 10:02d}.{tenths % 10}" if hours else f"{minutes}:{tenths // 10:02d}.{tenths % 10}"
    return f"{hours}:{clock}" if hours else clock
