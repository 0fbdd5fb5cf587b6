"""Files that say when what is heard: onset, offset and label of events, in the forms that public data sets use."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from sslam_lightning.data.manifests.check_layout import expect_file
from sslam_lightning.data.manifests.tables import open_text, read_columns
from sslam_lightning.types import Event

# What the columns of a table of events are called: by DCASE and DESED, and by AudioSet's strong labels.
_COLUMNS = (
    ("filename", "segment_id"),
    ("onset", "start_time_seconds"),
    ("offset", "end_time_seconds"),
    ("event_label", "label"),
)


def read_event_list(path: Path) -> list[Event]:
    """The events of one recording: ``onset<TAB>offset<TAB>label`` a line, in seconds, without a header."""
    expect_file(path, what="annotation")
    events = []
    with open_text(path, errors="strict") as file:
        for line, text in enumerate(map(str.strip, file), start=1):
            if text:
                cells = text.split("\t") if "\t" in text else text.split(maxsplit=2)
                if len(cells) != 3:
                    raise ValueError(f"{path}, line {line}: expected onset<TAB>offset<TAB>label, got {text!r}")
                onset, offset, label = cells
                events.append(_event(onset, offset, label, f"{path}, line {line}"))
    return events


def read_recording_events(path: Path) -> list[Event]:
    """The events of one recording: of a JAMS file, or of a list by any other name; raises as those readers do."""
    return read_jams_events(path) if path.suffix.lower() == ".jams" else read_event_list(path)


def read_event_table(path: Path) -> dict[str, list[Event]]:
    """The events of many recordings, by their name: a table separated by tabs, semicolons or commas, with a header.

    Columns are ``filename, onset, offset, event_label`` (DCASE, DESED) or ``segment_id, start_time_seconds,
    end_time_seconds, label`` (AudioSet). A row that has nothing but a name is a recording without events.
    """
    expect_file(path, what="table of events")
    events: dict[str, list[Event]] = {}
    for line, (name, onset, offset, label) in read_columns(path, _COLUMNS, "\t;,"):
        found = events.setdefault(name, [])
        if onset or offset or label:
            found.append(_event(onset, offset, label, f"{path}, line {line}"))
    if not events:
        raise ValueError(f"{path}: no events in it")
    return events


def read_jams_events(path: Path) -> list[Event]:
    """The foreground events of a JAMS file that Scaper wrote."""
    expect_file(path, what="annotation")
    try:
        annotations = json.loads(path.read_text(encoding="utf-8"))["annotations"]
        wanted = [found for found in annotations if found["namespace"] in ("scaper", "sound_event")]
        heard = [
            (row["time"], float(row["time"]) + float(row["duration"]), row["value"]["label"])
            for annotation in wanted
            for row in annotation["data"]
            if row["value"].get("role", "foreground") == "foreground"
        ]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}: not a JAMS file of sound events ({type(error).__name__}: {error})") from None
    if not wanted:
        raise ValueError(f"{path}: no annotation of the namespace scaper or sound_event")
    return [_event(onset, offset, label, str(path)) for onset, offset, label in heard]


def labels_of(annotations: Iterable[Sequence[Event]]) -> tuple[str, ...]:
    """Every label that comes, in alphabetical order."""
    return tuple(sorted({event.label for events in annotations for event in events}))


def renamed(annotations: Mapping[str, Sequence[Event]], name_of: Mapping[str, str]) -> dict[str, list[Event]]:
    """The same events under other labels; a label that ``name_of`` does not know stays."""
    return {
        file: [event._replace(label=name_of.get(event.label, event.label)) for event in events]
        for file, events in annotations.items()
    }


def _event(onset: Any, offset: Any, label: str, where: str) -> Event:
    try:
        event = Event(float(onset), float(offset), label.strip())
    except ValueError:
        raise ValueError(f"{where}: onset and offset must be numbers of seconds, got {onset!r} and {offset!r}") from None
    if not (isfinite(event.onset_seconds) and isfinite(event.offset_seconds)):
        raise ValueError(f"{where}: onset and offset must be finite, got {onset} and {offset}")
    if not 0 <= event.onset_seconds <= event.offset_seconds:
        raise ValueError(f"{where}: an event from {onset} to {offset} s does not lie in a recording")
    if not event.label:
        raise ValueError(f"{where}: an event without a label")
    return event
