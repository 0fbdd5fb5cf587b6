"""Soundscapes made with Scaper, in whatever folders: URBAN-SED, IDMT-DESED-FL, your own."""

from __future__ import annotations

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from sslam_lightning.data.annotations import labels_of, read_recording_events
from sslam_lightning.data.audio import AUDIO_EXTENSIONS
from sslam_lightning.data.event_dataset import Annotated, EventDataModule
from sslam_lightning.data.files import find_files
from sslam_lightning.data.layout import expect_folder
from sslam_lightning.data.manifest import MissingFiles
from sslam_lightning.data.module import Split
from sslam_lightning.data.parallel import progress

_log = logging.getLogger(__name__)
_WORDS: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validate", "validation"),
    "test": ("test", "tests", "testing", "eval", "evaluate", "evaluation"),
}
_SPLIT_OF = {word: split for split, words in _WORDS.items() for word in words}
_FORM = (
    "soundscapes lie below folders called train, validation (or val) and test (or eval), their events in NAME.txt or "
    "NAME.jams next to them or in a parallel folder; EventTableDataModule reads events in tables"
)


class ScaperDataModule(EventDataModule):
    """Soundscapes as Scaper writes them: tags and events.

    A recording belongs to the split named by the innermost folder of such a name (``train``; ``val``, ``validation``, ...;
    ``test``, ``eval``, ...), or else by the first folder with such a word in its name (``train_clients``). Its events are
    those of the text or JAMS file of its name, next to it or in a parallel folder (see `companions`). Without a test split
    the validation split serves as one. Scaper's isolated events (``NAME_events/``) are ignored.

    Args:
        root: folder of the data set.
        clip_seconds: cut the recordings into clips of this length; None: a recording is a clip.
        missing_files: "error", or "skip" to leave out recordings without events.
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
        self._annotated = _read(expect_folder(Path(root), _FORM), missing_files)
        class_names = labels_of(file.events for files in self._annotated.values() for file in files)
        if not class_names:
            raise ValueError(f"{root}: there is no event in any of its recordings")
        super().__init__(root, class_names, clip_seconds, **options)

    def annotated(self, split: Split) -> list[Annotated] | None:
        return self._annotated.get("val" if split == "test" and "test" not in self._annotated else split)


def companions(
    files: Sequence[str], others: Sequence[str], group_of: Callable[[PurePosixPath], Hashable | None]
) -> dict[str, str]:
    """Match each file with the one of ``others`` of the same name, in the nearest of these places.

    Next to it; in a parallel folder of the same group (the paths differ in one folder, or one has a folder more); anywhere
    in the group or outside all groups, if no other file has this name. Text files come before others.

    Args:
        files: paths relative to the data set's folder.
        others: the same.
        group_of: the group that a folder belongs to, such as a split; None: to no group.

    Returns:
        Files without a companion are left out.

    Raises:
        ValueError: a file has two, or two files have the same.
    """
    bare = {file: PurePosixPath(file).with_suffix("") for file in files}
    names = Counter(path.name for path in set(bare.values()))
    near, named = defaultdict[Hashable, list[str]](list), defaultdict[str, list[str]](list)
    taken = set(bare.values())
    for other in others:
        path = PurePosixPath(other).with_suffix("")
        if path in taken:
            near[path].append(other)
            continue
        named[path.name].append(other)
        for way in _parallel(path):
            near[group_of(path.parent), way].append(other)
    found: dict[str, str] = {}
    owner: dict[str, PurePosixPath] = {}
    for file, path in bare.items():
        group = group_of(path.parent)
        candidates = near.get(path) or [one for way in _parallel(path) for one in near.get((group, way), ())]
        if not candidates and names[path.name] == 1:
            candidates = [one for one in named.get(path.name, ()) if group_of(PurePosixPath(one).parent) in (None, group)]
        texts = sorted({one for one in candidates if one.lower().endswith(".txt")} or set(candidates))
        if len(texts) > 1:
            raise ValueError(f"{file}: {texts[0]} or {texts[1]} may go with it")
        if texts:
            found[file] = texts[0]
            if owner.setdefault(texts[0], path) != path:
                raise ValueError(f"{texts[0]}: {file} or a file called {owner[texts[0]]} may go with it")
    return found


def _parallel(path: PurePosixPath) -> Iterator[tuple[str, ...]]:
    """The path with any folder (``*``) in the place of one, for each of them, and with any folder more."""
    folders, name = path.parent.parts, path.name
    for place in range(len(folders) + 1):
        yield *folders[:place], "*", *folders[place:], name
        if place < len(folders):
            yield *folders[:place], "*", *folders[place + 1 :], name


def _read(root: Path, missing_files: MissingFiles) -> dict[Split, list[Annotated]]:
    split_of = _splits(root)
    try:
        annotations = find_files(root, (".txt", ".jams"))
    except FileNotFoundError:
        annotations = []
    lists = companions(list(split_of), annotations, _split_of)
    found: dict[Split, list[Annotated]] = defaultdict(list)
    with progress(len(lists), "read events", unit="file") as bar:
        for file, annotation in lists.items():
            found[split_of[file]].append(Annotated(file, read_recording_events(root / annotation)))
            bar.update()
    if without := [file for file in split_of if file not in lists]:
        message = f"{root}: {len(without)} of {len(split_of)} recordings have no events, the first is {without[0]}"
        if missing_files == "error" or "train" not in found:
            raise FileNotFoundError(f"{message}: {_FORM}")
        _log.warning("%s; they are skipped", message)
    return dict(found)


def _splits(root: Path) -> dict[str, Split]:
    """The split of every soundscape."""
    paths = [PurePosixPath(file) for file in find_files(root, AUDIO_EXTENSIONS)]
    isolated = {path.with_name(f"{path.stem}_events") for path in paths}
    soundscapes = [path for path in paths if isolated.isdisjoint(path.parents)]
    split_of = {str(path): split for path in soundscapes if (split := _split_of(path.parent)) is not None}
    if "train" not in split_of.values():
        raise FileNotFoundError(f"{root} holds no recordings in a folder called train: {_FORM}")
    if outside := [str(path) for path in soundscapes if str(path) not in split_of]:
        _log.warning("%s: %d recordings are in no split and are ignored, the first is %s", root, len(outside), outside[0])
    return split_of


def _split_of(path: PurePosixPath) -> Split | None:
    """The split named by the innermost part of a path, or else by the first part with such a word."""
    whole = [_SPLIT_OF[part.lower()] for part in path.parts if part.lower() in _SPLIT_OF]
    words = [word.lower() for part in path.parts for word in re.findall("[A-Z]?[a-z]+|[A-Z]+", part)]
    return whole[-1] if whole else next((_SPLIT_OF[word] for word in words if word in _SPLIT_OF), None)
