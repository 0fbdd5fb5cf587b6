"""Label files of fairseq manifests: which labels belong to which recording.

A ``.lbl`` holds ``name<TAB>label,label`` per line. Its names need not be spelled as in the ``.tsv``, so a name is
looked up as it stands, then without the extension, then by its file name alone (AudioSet knows its clips by their
eleven-character YouTube id). Whatever stays unclear is an error: a label on the wrong clip is never seen again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import zip_longest
from pathlib import Path

import numpy as np

from sslam_lightning.data.audio.read import AUDIO_EXTENSIONS
from sslam_lightning.data.filesystem import exists, local_path
from sslam_lightning.data.manifests.class_map import ClassTable, table_of_words
from sslam_lightning.data.manifests.recordings import Recordings, make_recordings
from sslam_lightning.data.manifests.tables import open_text
from sslam_lightning.data.shards.packed import PackedClasses

LABEL_SEPARATOR = ";"  # in manifests; names of classes hold commas
_YOUTUBE_ID_LENGTH = 11


def read_labels(path: str | Path, names: Sequence[str], table: ClassTable) -> PackedClasses:
    """Class indices of every recording, in the order of ``names``. The file may hold more recordings, in any order.

    ValueError, with the line, for a malformed line, a label that is not in the table, and an entry that could mean two
    recordings; also for a recording without an entry, or with several.
    """
    path = local_path(path)
    _expect(path)
    lines: Sequence[int] = range(1, len(names) + 1)

    def explain(row: int, label: str) -> ValueError:
        return ValueError(f"{path}, line {lines[row]}: label {label!r} of {names[row]} is not among the label descriptors")

    if _is_aligned(path, names):  # the search below needs half a gigabyte for two million names
        with open_text(path) as file:
            texts = (text.partition("\t")[2].rstrip("\r\n") for text in file)
            return PackedClasses.of_texts(texts, ",", table.class_of, explain)
    entries = _LabelFile(path)
    name_of: dict[int, str] = {}
    for name in names:
        line = entries.line_of(name)
        if line in name_of:
            raise ValueError(
                f"{path}, line {line}: could mean {name_of[line]} and {name}; give the folder in the label file"
            )
        name_of[line] = name
    lines = list(name_of)
    return PackedClasses.of_texts((entries.labels[line] for line in lines), ",", table.class_of, explain)


def with_labels(recordings: Recordings, path: str | Path) -> Recordings:
    """The recordings with the labels of a ``.lbl``, whatever they are; ValueError for one that holds a semicolon."""
    table = table_of_words(words_of(local_path(path)))
    check_separable(table.names, str(path))
    classes = read_labels(path, recordings.names, table)
    return make_recordings(recordings.root, recordings.names, classes, table.names)


def check_separable(labels: Iterable[str], where: str) -> None:
    """Raise ValueError for a label that would stand for two in a manifest."""
    if torn := next((label for label in labels if LABEL_SEPARATOR in label), None):
        raise ValueError(f"{where}: the label {torn!r} holds a {LABEL_SEPARATOR}, which separates labels; rename it")


def words_of(path: str) -> set[str]:
    """Every label that comes in a label file."""
    _expect(path)
    words = {word.strip() for _, _, labels in _read_lines(path) for word in labels.split(",")}
    return words - {""}


def _expect(path: str) -> None:
    if not exists(path):
        raise FileNotFoundError(
            f"label file {path} does not exist, in which a manifest without a column labels has its labels"
        )


def _is_aligned(path: str, names: Sequence[str]) -> bool:
    """Whether a file has the manifest's own names in its order, as most have."""
    hashes = np.fromiter(map(hash, names), dtype=np.int64, count=len(names))
    if len(np.unique(hashes)) < len(names):
        return False  # a name that comes twice needs a second look
    with open_text(path) as file:
        pairs = zip_longest(file, names)
        return all(text is not None and name is not None and text.startswith(f"{name}\t") for text, name in pairs)


def _read_lines(path: str) -> Iterator[tuple[int, str, str]]:
    """Number, name and labels of every line."""
    with open_text(path) as file:
        for line, text in enumerate(file, start=1):
            text = text.rstrip("\r\n")
            if not text.strip():
                continue
            name, tab, labels = text.partition("\t")
            if not tab:  # fairseq splits at any white space
                name, _, labels = text.strip().partition(" ")
            if not name or not (tab or labels):
                raise ValueError(f"{path}, line {line}: expected 'name<TAB>label,label', got {text!r}")
            yield line, name, labels


class _LabelFile:
    """The lines of a label file and the ways to find them."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.labels: dict[int, str] = {}  # line number -> labels as they are written
        self._line_of_name: dict[str, int] = {}
        for line, name, labels in _read_lines(path):
            first = self._line_of_name.setdefault(name, line)
            if first != line and self.labels[first] != labels:
                raise ValueError(f"{path}, line {line}: {name} has other labels than in line {first}")
            self.labels[line] = labels

    @cached_property
    def _entries_of_stem(self) -> dict[str, list[tuple[int, str]]]:
        """Line and name without extension; needed only where the names are not spelled alike."""
        entries: dict[str, list[tuple[int, str]]] = defaultdict(list)
        for name, line in self._line_of_name.items():
            bare = _without_extension(name)
            entries[_stem(bare)].append((line, bare))
        return entries

    def line_of(self, name: str) -> int:
        line = self._line_of_name.get(name)
        return self._search(name) if line is None else line

    def _search(self, name: str) -> int:
        bare = _without_extension(name)
        stem = _stem(bare)
        found = _agreeing(bare, self._entries_of_stem.get(stem, ()))
        if not found and len(stem) == _YOUTUBE_ID_LENGTH + 1 and stem.startswith("Y"):
            # downloaders put a Y before the id, as a file name should not start with a dash
            found = _agreeing(bare.removesuffix(stem) + stem[1:], self._entries_of_stem.get(stem[1:], ()))
        if not found:
            raise ValueError(f"{self.path}: no entry for {name}")
        if len(found) > 1:
            raise ValueError(f"{self.path}: lines {found[0]} and {found[1]} could both mean {name}")
        return found[0]


def _without_extension(name: str) -> str:
    """Ids may hold dots, so only known extensions count as one."""
    name = name.replace("\\", "/").lstrip("/")
    rest, dot, extension = name.rpartition(".")
    return rest if dot + extension.lower() in AUDIO_EXTENSIONS else name


def _stem(bare: str) -> str:
    return bare.rpartition("/")[2]


def _agreeing(bare: str, entries: Sequence[tuple[int, str]]) -> list[int]:
    """Lines whose path is the end of this one, or the other way round; exact ones shut out the rest."""
    exact = [line for line, entry in entries if entry == bare]
    return exact or [line for line, entry in entries if entry.endswith(f"/{bare}") or bare.endswith(f"/{entry}")]
