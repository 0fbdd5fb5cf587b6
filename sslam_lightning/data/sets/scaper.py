"""Soundscapes made with Scaper, wherever their makers put the files: IDMT-DESED-FL, DESED's synthetic part, your own."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from sslam_lightning.data.annotations import is_event_table, labels_of, read_event_table, read_recording_events
from sslam_lightning.data.audio import AUDIO_EXTENSIONS
from sslam_lightning.data.event_dataset import Annotated, EventDataModule
from sslam_lightning.data.files import find_files
from sslam_lightning.data.layout import expect_folder
from sslam_lightning.data.manifest import MissingFiles
from sslam_lightning.data.module import Split
from sslam_lightning.data.parallel import progress
from sslam_lightning.data.sets.companions import companions
from sslam_lightning.data.sets.event_table import spellings
from sslam_lightning.types import Event

_log = logging.getLogger(__name__)
_CALLED: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validate", "validation"),
    "test": ("test", "tests", "testing", "eval", "evaluate", "evaluation"),
}
_SPLIT_OF = {word: split for split, words in _CALLED.items() for word in words}
_FORM = (
    "soundscapes lie below folders called train, validation (or val) and test (or eval), their events in NAME.txt or "
    "NAME.jams beside them or in a parallel folder, or in tables (filename, onset, offset, event_label)"
)


class ScaperDataModule(EventDataModule):
    """Soundscapes as Scaper writes them, in whatever folders: tags and events.

    A recording belongs to the split that the innermost folder of such a name says (``train``; ``val``, ``validation``, ...;
    ``test``, ``eval``, ...), or else the first with such a word in its name (``train_clients``). Its events are those of
    the text or JAMS file of its name, beside it or in a parallel folder (see `companions`), or else of a table (see
    `read_event_table`). Without a split for test, that for validation serves. Scaper's isolated events (``NAME_events/``)
    are left alone.

    Args:
        root: folder of the data set.
        clip_seconds: cut the recordings into clips of this length; None: a recording is a clip.
        missing_files: a recording without events, or a table's row without a recording, stops ("error") or is left out
            ("skip").
        options: settings of `AudioDataModule`.

    Raises:
        FileNotFoundError: no folder, nothing to train on, or what ``missing_files`` says.
        ValueError: events that could be those of two files, or an annotation of another form.
    """

    def __init__(
        self,
        root: str | Path,
        clip_seconds: float | None = None,
        missing_files: MissingFiles = "error",
        **options: Any,
    ) -> None:
        if missing_files not in ("error", "skip"):
            raise ValueError(f"missing_files must be 'error' or 'skip', got {missing_files!r}")
        self._annotated = _read(expect_folder(Path(root), _FORM), missing_files)
        class_names = labels_of(file.events for files in self._annotated.values() for file in files)
        if not class_names:
            raise ValueError(f"{root}: there is no event in any of its recordings")
        super().__init__(root, class_names, clip_seconds, **options)

    def annotated(self, split: Split) -> list[Annotated] | None:
        """The recordings of a split; the test is that of validation where it has none of its own."""
        return self._annotated.get("val" if split == "test" and "test" not in self._annotated else split)


def _read(root: Path, missing_files: MissingFiles) -> dict[Split, list[Annotated]]:
    split_of = _splits(root)
    lists = companions(list(split_of), _found(root, ".txt", ".jams"), _split_of)
    rows = _rows_of_tables(root, split_of, missing_files)
    found: dict[Split, list[Annotated]] = defaultdict(list)
    without = []
    with progress(len(split_of), "read events", unit="file") as bar:
        for file, split in split_of.items():
            events = read_recording_events(root / lists[file]) if file in lists else rows.get(file)
            if events is None:
                without.append(file)
            else:
                found[split].append(Annotated(file, events))
            bar.update()
    if without:
        told = f"{root}: {len(without)} of {len(split_of)} recordings have no events, the first is {without[0]}"
        if missing_files == "error" or "train" not in found:
            raise FileNotFoundError(f"{told}: {_FORM}")
        _log.warning("%s; they are skipped", told)
    return dict(found)


def _splits(root: Path) -> dict[str, Split]:
    """The split of every soundscape."""
    files = find_files(root, AUDIO_EXTENSIONS)
    stems = {PurePosixPath(file).with_suffix("") for file in files}
    soundscapes = [
        path
        for path in map(PurePosixPath, files)
        if not any(
            folder.name.endswith("_events") and folder.with_name(folder.name.removesuffix("_events")) in stems
            for folder in path.parents
        )
    ]
    split_of = {str(path): split for path in soundscapes if (split := _split_of(path.parent)) is not None}
    if "train" not in split_of.values():
        raise FileNotFoundError(f"{root} holds no recordings in a folder called train: {_FORM}")
    if outside := [str(path) for path in soundscapes if str(path) not in split_of]:
        _log.warning(
            "%s: %d recordings are in no split and are left alone, the first is %s", root, len(outside), outside[0]
        )
    return split_of


def _split_of(path: PurePosixPath) -> Split | None:
    """The split that the innermost part of a path is called, or else the first part that has its name among its words."""
    called = [_SPLIT_OF[part.lower()] for part in path.parts if part.lower() in _SPLIT_OF]
    words = [word.lower() for part in path.parts for word in re.findall("[A-Z]?[a-z]+|[A-Z]+", part)]
    return called[-1] if called else next((_SPLIT_OF[word] for word in words if word in _SPLIT_OF), None)


def _rows_of_tables(root: Path, split_of: Mapping[str, Split], missing_files: MissingFiles) -> dict[str, list[Event]]:
    """The events of the recordings that stand in tables; a table that is called after no split may name any of them."""
    events: dict[str, list[Event]] = {}
    tables = [path for path in _found(root, ".tsv", ".csv") if is_event_table(root / path)]
    files_of = spellings(list(split_of)) if tables else {}
    for table in tables:
        rows, missing = read_event_table(root / table), []
        for name, listed in rows.items():
            file = _named(name, files_of.get(name, []), PurePosixPath(table), split_of)
            if file is None:
                missing.append(name)
            elif sorted(events.setdefault(file, listed)) != sorted(listed):
                raise ValueError(f"{root / table}: {name} has other events than in another table of {root}")
        if missing:
            told = f"{root / table}: {len(missing)} of {len(rows)} recordings are not there, the first is {missing[0]}"
            if missing_files == "error":
                raise FileNotFoundError(f"{told}: {_FORM}")
            _log.warning("%s; they are skipped", told)
    return events


def _named(name: str, files: Sequence[str], table: PurePosixPath, split_of: Mapping[str, Split]) -> str | None:
    split = _split_of(table.with_suffix(""))
    files = [file for file in files if split in (None, split_of[file])]
    below = [file for file in files if PurePosixPath(file).is_relative_to(table.parent)]
    files = below or files
    if len(files) > 1:
        raise ValueError(f"{table}: {name} may be {files[0]} or {files[1]}")
    return files[0] if files else None


def _found(root: Path, *extensions: str) -> list[str]:
    try:
        return find_files(root, extensions)
    except FileNotFoundError:
        return []
