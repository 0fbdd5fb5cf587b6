"""Soundscapes made with Scaper, wherever their makers put the files: IDMT-DESED-FL, DESED's synthetic part, your own."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from sslam_lightning.data.annotations import is_event_table, labels_of, read_event_list, read_event_table, read_jams_events
from sslam_lightning.data.audio import AUDIO_EXTENSIONS
from sslam_lightning.data.event_dataset import Annotated, EventDataModule
from sslam_lightning.data.files import find_files
from sslam_lightning.data.layout import expect_folder
from sslam_lightning.data.module import Split
from sslam_lightning.data.parallel import progress
from sslam_lightning.data.sets.event_table import find_recordings
from sslam_lightning.types import Event

_CALLED: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validate", "validation"),
    "test": ("test", "eval", "evaluate", "evaluation"),
}
_SPLIT_OF = {word: split for split, words in _CALLED.items() for word in words}
_FORM = (
    "soundscapes lie below folders called train, validation (or val) and test (or eval), and their events in NAME.txt, "
    "NAME.jams or a table (filename, onset, offset, event_label) of the same split"
)


class ScaperDataModule(EventDataModule):
    """Soundscapes as Scaper writes them, in whatever folders: tags and events.

    A file belongs to the split that the first folder on the way to it is called after (``train``, ``train_clients``, ...;
    ``val``, ``valid``, ``validation``; ``test``, ``eval``, ...), or else its own name. The events of a recording are those
    of the text or JAMS file of its name and split that lies nearest to it, or else of a table (see `read_event_table`).
    Without a split for test, that for validation serves. Scaper's isolated events (``NAME_events/``) are left alone.

    Args:
        root: folder of the data set.
        clip_seconds: cut the recordings into clips of this length; None: a recording is a clip.
        options: settings of `AudioDataModule`.

    Raises:
        FileNotFoundError: no folder, nothing to train on, a recording without events, or a table's row without a recording.
        ValueError: events that could be those of two files, or an annotation of another form.
    """

    def __init__(self, root: str | Path, clip_seconds: float | None = None, **options: Any) -> None:
        self._annotated = _read(expect_folder(Path(root), _FORM))
        class_names = labels_of(file.events for files in self._annotated.values() for file in files)
        super().__init__(root, class_names, clip_seconds, **options)

    def annotated(self, split: Split) -> list[Annotated] | None:
        """The recordings of a split; the test is that of validation where it has none of its own."""
        return self._annotated.get("val" if split == "test" and "test" not in self._annotated else split)


def _read(root: Path) -> dict[Split, list[Annotated]]:
    split_of = {
        file: split
        for file in find_files(root, AUDIO_EXTENSIONS)
        if (split := _split_of(file)) is not None and not PurePosixPath(file).parent.name.endswith("_events")
    }
    if "train" not in split_of.values():
        raise FileNotFoundError(f"{root} holds no recordings in a folder called train: {_FORM}")
    lists = defaultdict(list)
    for path in _found(root, ".txt", ".jams"):
        lists[_split_of(path), PurePosixPath(path).stem].append(path)
    rows = _rows_of_tables(root, list(split_of))
    found: dict[Split, list[Annotated]] = defaultdict(list)
    without = []
    with progress(len(split_of), "read events", unit="file") as bar:
        for file, split in split_of.items():
            own = lists[split, PurePosixPath(file).stem]
            events = _read_list(root / _nearest(file, own)) if own else rows.get(file)
            if events is None:
                without.append(file)
            else:
                found[split].append(Annotated(file, events))
            bar.update()
    if without:
        told = f"{len(without)} of {len(split_of)} recordings have no events, the first is {without[0]}"
        raise FileNotFoundError(f"{root}: {told}: {_FORM}")
    return dict(found)


def _split_of(file: str) -> Split | None:
    words = re.findall("[a-z]+", str(PurePosixPath(file).with_suffix("")).lower())
    return next((_SPLIT_OF[word] for word in words if word in _SPLIT_OF), None)


def _nearest(file: str, lists: Sequence[str]) -> str:
    """The list of events that has the most folders in common with a recording; a text file rather than a JAMS file."""
    folders = set(PurePosixPath(file).parent.parts)
    common = [len(folders.intersection(PurePosixPath(path).parent.parts)) for path in lists]
    near = [path for path, number in zip(lists, common, strict=True) if number == max(common)]
    if len({PurePosixPath(path).parent for path in near}) > 1:
        raise ValueError(f"{file}: its events could be those of {' or of '.join(near)}")
    return max(near, key=lambda path: path.endswith(".txt"))


def _read_list(path: Path) -> list[Event]:
    return read_event_list(path) if path.suffix == ".txt" else read_jams_events(path)


def _rows_of_tables(root: Path, recordings: Sequence[str]) -> dict[str, list[Event]]:
    """The events of the recordings that stand in tables; a table that is called after no split may name any of them."""
    events: dict[str, list[Event]] = {}
    for path in _found(root, ".tsv", ".csv"):
        if not is_event_table(root / path):
            continue
        split = _split_of(path)
        rows = read_event_table(root / path)
        file_of = find_recordings(list(rows), [file for file in recordings if split in (None, _split_of(file))])
        missing = [name for name in rows if name not in file_of]
        if missing:
            told = f"{len(missing)} of {len(rows)} recordings are not there, the first is {missing[0]}"
            raise FileNotFoundError(f"{root / path}: {told}: {_FORM}")
        for name, file in file_of.items():
            if events.setdefault(file, rows[name]) != rows[name]:
                raise ValueError(f"{root / path}: {name} has other events than in another table of {root}")
    return events


def _found(root: Path, *extensions: str) -> list[str]:
    try:
        return find_files(root, extensions)
    except FileNotFoundError:
        return []
