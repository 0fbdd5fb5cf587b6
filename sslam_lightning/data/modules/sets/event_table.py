"""Any recordings with events, in a table or in a file for each: DESED, AudioSet's strong labels, URBAN-SED, your own."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from sslam_lightning.data.audio.read import AUDIO_EXTENSIONS
from sslam_lightning.data.files import find_files
from sslam_lightning.data.loading.event_dataset import Annotated, EventDataModule
from sslam_lightning.data.manifests.annotations import labels_of, read_event_table, read_recording_events, renamed
from sslam_lightning.data.manifests.check_layout import expect_file, expect_folder
from sslam_lightning.data.manifests.imports.segments import SegmentRow, files_of_segments
from sslam_lightning.data.manifests.manifest import MissingFiles
from sslam_lightning.data.manifests.tables import open_text, read_rows
from sslam_lightning.data.modules.base import Split
from sslam_lightning.types import Event

_log = logging.getLogger(__name__)
_FORM = (
    "events come as a table (filename, onset, offset, event_label), or a folder of NAME.txt or NAME.jams, and a folder of "
    "recordings for each split"
)


class _Table(NamedTuple):
    path: Path
    audio: str
    events: dict[str, list[Event]]


class EventTableDataModule(EventDataModule):
    """Recordings of a folder with the events of a table, or with an annotation file each.

    A table is that of DCASE and DESED (``filename<TAB>onset<TAB>offset<TAB>event_label`` with a header), or of AudioSet's
    strong labels (see `read_event_table`). A recording without events has a row with its name alone. Names may omit the
    extension; AudioSet's ids are found under all the names that downloaders give their files. Annotation files are
    ``NAME.txt`` (onset, offset and label a line) or ``NAME.jams``, as Scaper writes them, in the recordings' folder or in
    one with the same sub-folders. Recordings that are not annotated are ignored.

    Args:
        root: folder that all other paths are relative to.
        train_events: table or folder of annotations of the training recordings.
        train_audio: folder of the training recordings.
        val_events, val_audio: those to validate on; None: no validation.
        test_events, test_audio: those to test on; None: the validation recordings.
        label_names: table without a header, ``label<TAB>name``: the class names of labels, such as AudioSet's
            ``mid_to_display_name.tsv``.
        missing_files: "error", or "skip" to leave out recordings of the table that do not exist.
        clip_seconds: cut the recordings into clips of this length; None: a recording is a clip.
        options: settings of `AudioDataModule`.

    Raises:
        FileNotFoundError: a table (now), a folder or a recording (at setup) is missing.
        ValueError: a table of another form.
    """

    def __init__(
        self,
        root: str | Path,
        train_events: str,
        train_audio: str,
        val_events: str | None = None,
        val_audio: str | None = None,
        test_events: str | None = None,
        test_audio: str | None = None,
        label_names: str | None = None,
        missing_files: MissingFiles = "error",
        clip_seconds: float | None = None,
        **options: Any,
    ) -> None:
        root = Path(root)
        name_of = {} if label_names is None else _read_names(expect_file(root / label_names, _FORM))
        sources: dict[Split, tuple[str | None, str | None]] = {
            "train": (train_events, train_audio),
            "val": (val_events, val_audio),
            "test": (test_events, test_audio),
        }
        self._tables: dict[Split, _Table] = {}
        for split, (table, audio) in sources.items():
            if (table is None) != (audio is None):
                raise ValueError(f"{split}_events and {split}_audio go together, got {table} and {audio}")
            if table is not None and audio is not None:
                self._tables[split] = _Table(root / table, audio, renamed(_read_events(root / table), name_of))
        # AudioSet's evaluation clips hold a few classes that its training clips do not.
        annotations = [events for table in self._tables.values() for events in table.events.values()]
        super().__init__(root, labels_of(annotations), clip_seconds, **options)
        self.missing_files: MissingFiles = missing_files

    def annotated(self, split: Split) -> list[Annotated] | None:
        table = self._tables.get("val" if split == "test" and "test" not in self._tables else split)
        if table is None:
            return None
        folder = expect_folder(self.root / table.audio, _FORM)
        files = find_files(folder, AUDIO_EXTENSIONS)
        file_of = find_recordings(list(table.events), files)
        if missing := [name for name in table.events if name not in file_of]:
            message = f"{table.path}: {len(missing)} of {len(table.events)} recordings are not in {folder}"
            if self.missing_files == "error" or not file_of:
                raise FileNotFoundError(f"{message}, the first is {missing[0]}")
            _log.warning("%s and are skipped, together with their events", message)
        if table.path.is_dir() and (unlisted := len(files) - len(file_of)):
            _log.warning("%s: %d of %d recordings have no annotation and are ignored", folder, unlisted, len(files))
        return [Annotated(f"{table.audio}/{file}", table.events[name]) for name, file in file_of.items()]


def find_recordings(names: Sequence[str], files: Sequence[str]) -> dict[str, str]:
    """The file of each recording that has one: by its name, with or without folders or extension, or by AudioSet's id.

    Raises:
        ValueError: a name that several files have.
    """
    spelled = defaultdict[str, list[str]](list)
    for path in map(PurePosixPath, files):
        for spelling in {path, path.with_suffix("")}:
            for first in range(len(path.parts)):
                spelled["/".join(spelling.parts[first:])].append(str(path))
    found: dict[str, str] = {}
    segments: dict[str, SegmentRow] = {}
    for name in names:
        candidates = spelled.get(name, [])
        if len(candidates) == 1 or name in candidates:
            found[name] = name if name in candidates else candidates[0]
        elif candidates:
            raise ValueError(f"{name} may be {candidates[0]} or {candidates[1]}")
        else:
            id, _, milliseconds = name.rpartition("_")  # ``YTID_30000``: ten seconds of a video, from 30 s on
            if milliseconds.isdigit():
                segments[name] = SegmentRow(id, int(milliseconds) / 1000, [])
    of_segment = files_of_segments(list(segments.values()), files)
    existing = set(files)
    found |= {name: file for name, file in zip(segments, of_segment, strict=True) if file in existing}
    return {name: found[name] for name in names if name in found}


def _read_events(path: Path) -> dict[str, list[Event]]:
    """The events of a table, or of the annotation files of a folder: text files come before JAMS."""
    if not path.is_dir():
        return read_event_table(expect_file(path, _FORM))
    files = {os.path.splitext(name)[0]: name for name in sorted(find_files(path, (".txt", ".jams")), key=_is_text)}
    return {name: read_recording_events(path / files[name]) for name in sorted(files)}


def _is_text(name: str) -> bool:
    return name.lower().endswith(".txt")


def _read_names(path: Path) -> dict[str, str]:
    with open_text(path, errors="strict") as file:
        rows = [row for _, row in read_rows(file, path, "\t")]
    if odd := next((row for row in rows if len(row) != 2), None):
        raise ValueError(f"{path}: expected label<TAB>name a line, got {odd}")
    return {label.strip(): name.strip() for label, name in rows}
