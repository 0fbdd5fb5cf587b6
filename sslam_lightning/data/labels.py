"""Label files of fairseq manifests: which labels belong to which recording.

A ``.lbl`` holds ``name<TAB>label,label`` per line. Its names need not be spelled as in the ``.tsv``, so a name is
looked up as it stands, then without the extension, then by its file name alone (AudioSet knows its clips by their
eleven-character YouTube id). Whatever stays unclear is an error: a label on the wrong clip is never seen again.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from sslam_lightning.data.audio import AUDIO_EXTENSIONS
from sslam_lightning.data.descriptors import ClassTable, table_of_words
from sslam_lightning.data.packed import PackedClasses, in_chunks
from sslam_lightning.data.storage import exists, local_path, open_binary

LABEL_SEPARATOR = ";"  # in manifests; names of classes hold commas
_YOUTUBE_ID_LENGTH = 11


def read_labels(path: str | Path, names: Sequence[str], table: ClassTable) -> PackedClasses:
    """Class indices of every recording, in the order of ``names``.

    Args:
        path: the ``.lbl``; it may hold more recordings than asked for, in any order.
        names: recordings, as their manifest calls them.
        table: what the labels stand for.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a malformed line or a label that is not in the table (with the line), a recording without an
            entry, or one that several entries could mean.
    """
    path = local_path(path)
    _expect(path)
    aligned = _read_aligned(path, names, table)
    if aligned is not None:
        return aligned
    entries = _LabelFile(path)
    lines: dict[int, str] = {}
    for name in names:
        line = entries.line_of(name)
        if line in lines:
            raise ValueError(f"{path}, line {line}: could mean {lines[line]} and {name}; give the folder in the label file")
        lines[line] = name

    def explain(row: int, label: str) -> ValueError:
        return _unknown_label(path, list(lines)[row], label, names[row])

    return PackedClasses.of_texts((entries.labels[line] for line in lines), ",", table.class_of, explain)


def labels_as_written(path: str | Path, names: Sequence[str]) -> list[str]:
    """The labels of every recording, separated by semicolons as in a manifest.

    Raises:
        ValueError: a label that holds one, and whatever `read_labels` refuses.
    """
    table = table_of_words(words_of(local_path(path)))
    check_separable(table.names, str(path))
    return [LABEL_SEPARATOR.join(table.names[i] for i in classes) for classes in read_labels(path, names, table)]


def check_separable(labels: Iterable[str], where: str) -> None:
    """Raise ValueError for a label that would stand for two in a manifest."""
    if torn := next((label for label in labels if LABEL_SEPARATOR in label), None):
        raise ValueError(f"{where}: the label {torn!r} holds a {LABEL_SEPARATOR}, which separates labels; rename it")


def _expect(path: str) -> None:
    if not exists(path):
        raise FileNotFoundError(
            f"label file {path} does not exist, in which a manifest without a column labels has its labels"
        )


def words_of(path: str) -> set[str]:
    """Every label that comes in a label file."""
    words: set[str] = set()
    _expect(path)
    with _open(path) as file:
        for text in file:
            _, tab, labels = text.rstrip("\r\n").partition("\t")
            words.update(labels.split(",") if tab else text.strip().partition(" ")[2].split(","))
    return {word.strip() for word in words if word.strip()}


def _read_aligned(path: str, names: Sequence[str], table: ClassTable) -> PackedClasses | None:
    """The labels of a file that has the manifest's own names in its order, as most have; None: it has not.

    The general search needs all names of a file in memory: for two million, more than half a gigabyte.
    """
    hashes = np.sort(np.fromiter(map(hash, names), dtype=np.int64, count=len(names)))
    if (hashes[1:] == hashes[:-1]).any():
        return None  # a name that comes twice needs a second look

    def explain(row: int, label: str) -> ValueError:
        return _unknown_label(path, row + 1, label, names[row])

    with _open(path) as file:
        try:
            return PackedClasses.of_texts(_labels_in_order(file, names), ",", table.class_of, explain)
        except _NotAligned:
            return None


class _NotAligned(Exception):
    """A line is not about the recording of its row."""


def _labels_in_order(file: Iterable[str], names: Iterable[str]) -> Iterator[str]:
    lines = iter(file)
    for chunk in in_chunks(names):
        texts, heads = list(islice(lines, len(chunk))), [f"{name}\t" for name in chunk]
        if len(texts) < len(chunk) or not all(map(str.startswith, texts, heads)):
            raise _NotAligned
        yield from (text[len(head) :].rstrip("\r\n") for text, head in zip(texts, heads, strict=True))
    if next(lines, None) is not None:
        raise _NotAligned


def _open(path: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(open_binary(path), encoding="utf-8-sig", errors="surrogateescape")


def _unknown_label(path: str, line: int, label: str, name: str) -> ValueError:
    return ValueError(f"{path}, line {line}: label {label!r} of {name} is not among the label descriptors")


class _LabelFile:
    """The lines of a label file and the ways to find them."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.labels: dict[int, str] = {}  # line number -> labels as they are written
        self._line_of_name: dict[str, int] = {}
        self._entries_of_stem: dict[str, list[tuple[int, str]]] | None = None  # line and name without extension
        with _open(path) as file:
            for line, text in enumerate(file, start=1):
                if text.strip():
                    self._add(line, text.rstrip("\r\n"))

    def _add(self, line: int, text: str) -> None:
        name, tab, labels = text.partition("\t")
        if not tab:  # fairseq splits at any white space
            name, _, labels = text.strip().partition(" ")
        if not name or not (tab or labels):
            raise ValueError(f"{self.path}, line {line}: expected 'name<TAB>label,label', got {text!r}")
        first = self._line_of_name.setdefault(name, line)
        if first != line and self.labels[first] != labels:
            raise ValueError(f"{self.path}, line {line}: {name} has other labels than in line {first}")
        self.labels[line] = labels

    def line_of(self, name: str) -> int:
        line = self._line_of_name.get(name)
        return self._search(name) if line is None else line

    def _search(self, name: str) -> int:
        if self._entries_of_stem is None:  # built only where the names are not spelled alike
            self._entries_of_stem = defaultdict(list)
            for entry, line in self._line_of_name.items():
                bare = _without_extension(entry)
                self._entries_of_stem[_stem(bare)].append((line, bare))
        bare = _without_extension(name)
        stem = _stem(bare)
        found = _agreeing(bare, self._entries_of_stem.get(stem, ()))
        if not found and len(stem) == _YOUTUBE_ID_LENGTH + 1 and stem.startswith("Y"):
            # downloaders put a Y before the id, as a file name should not start with a dash
            bare = bare.removesuffix(stem) + stem[1:]
            found = _agreeing(bare, self._entries_of_stem.get(stem[1:], ()))
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
