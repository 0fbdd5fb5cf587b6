"""AudioSet's own lists of segments (Gemmeke et al., ICASSP 2017) against a folder of files.

Lines are ``YTID, start_seconds, end_seconds, "/m/..,/m/.."`` behind comments. Downloaders name files in several ways:
``YTID.wav``, ``YYTID.wav``, ``YTID_START.wav``, ``YTID_START_END.wav``; other files of the folder are left alone.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sslam_lightning.data.manifests.check_layout import expect_file
from sslam_lightning.data.manifests.recordings import Recordings
from sslam_lightning.data.manifests.tables import open_text, read_rows

_ID_LENGTH = 11
_STEM = re.compile(r"(?P<prefix>Y?)(?P<id>.{11})(?:[_-](?P<start>\d+(?:\.\d+)?)(?:[_-]\d+(?:\.\d+)?)?)?")


class SegmentRow(NamedTuple):
    """A line of the list."""

    id: str
    start_seconds: float
    labels: list[str]


def read_segments(path: str | Path, folder: str, names: Sequence[str]) -> Recordings:
    """Find the files of a list of segments among ``names``, files in ``folder``.

    A segment without a file keeps its id as name, so that it is reported as absent. ValueError for a malformed line, or two
    files for one segment.
    """
    segments = _read(Path(path))
    return Recordings.of_words(folder, files_of_segments(segments, names), [segment.labels for segment in segments])


def files_of_segments(segments: Sequence[SegmentRow], names: Sequence[str]) -> list[str]:
    """Which of the files ``names`` holds each segment; the id itself for one that has none."""
    ids = {segment.id for segment in segments}
    files: dict[str, list[tuple[float | None, str]]] = defaultdict(list)  # of an id, with the start that the name tells
    for name in names:
        match = _STEM.fullmatch(os.path.splitext(os.path.basename(name))[0])
        if match and match["id"] in ids:
            files[match["id"]].append((None if match["start"] is None else float(match["start"]), name))
    return [_file_of(segment, files) for segment in segments]


def _read(path: Path) -> list[SegmentRow]:
    expect_file(path, what="list of segments")
    segments = []
    with open_text(path, errors="replace") as file:  # what is no text is no segment
        for line, row in read_rows(file, path, ",", skip_spaces=True):
            if row[0].startswith("#") or row[0] == "YTID":
                continue
            try:
                id, start, _, labels = row
                if len(id) != _ID_LENGTH:
                    raise ValueError
                segments.append(SegmentRow(id, float(start), [label.strip() for label in labels.split(",")]))
            except ValueError:
                raise ValueError(
                    f'{path}, line {line}: expected YTID, start_seconds, end_seconds, "labels", got {", ".join(row)}'
                ) from None
    if not segments:
        raise ValueError(f"{path}: no segments in it")
    return segments


def _file_of(segment: SegmentRow, files: dict[str, list[tuple[float | None, str]]]) -> str:
    candidates = files.get(segment.id, [])
    starts = (segment.start_seconds, 1000 * segment.start_seconds)  # some write milliseconds
    fitting = [name for start, name in candidates if start in starts] or [n for start, n in candidates if start is None]
    if len(fitting) > 1:
        raise ValueError(f"two files for segment {segment.id}: {fitting[0]} and {fitting[1]}")
    return fitting[0] if fitting else segment.id
