"""Label files of fairseq manifests: which labels belong to which recording.

A ``.lbl`` holds ``name<TAB>label,label`` per line. Its names need not be spelled as in the ``.tsv``, so a name is
looked up as it stands, then without the extension, then by its file name alone (AudioSet knows its clips by their
eleven-character YouTube id). Whatever stays unclear is an error: a label on the wrong clip is never seen again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from sslam_lightning.data.descriptors import ClassTable

_AUDIO_SUFFIXES = frozenset(
    (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".m4a", ".mp4", ".webm", ".mkv")
)
_YOUTUBE_ID_LENGTH = 11


def read_labels(path: str | Path, names: Sequence[str], table: ClassTable) -> list[list[int]]:
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
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"label file {path} does not exist")
    entries = _LabelFile(path)
    classes = []
    taken: dict[int, str] = {}
    for name in names:
        line = entries.line_of(name)
        if line in taken:
            raise ValueError(
                f"{path}, line {line}: could mean {taken[line]} and {name}; give the folder in the label file"
            )
        taken[line] = name
        classes.append(_classes_of(entries.labels[line], name, path, line, table))
    return classes


def _classes_of(labels: str, name: str, path: Path, line: int, table: ClassTable) -> list[int]:
    try:
        return sorted({table.class_of[label.strip()] for label in labels.split(",") if label.strip()})
    except KeyError as error:
        raise ValueError(f"{path}, line {line}: label {error} of {name} is not among the label descriptors") from None


class _LabelFile:
    """The lines of a label file and the ways to find them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.labels: dict[int, str] = {}  # line number -> labels as they are written
        self._line_of_name: dict[str, int] = {}
        self._lines_of_stem: dict[str, list[tuple[int, tuple[str, ...]]]] | None = None
        with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
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
        if self._lines_of_stem is None:  # built only where the names are not spelled alike
            self._lines_of_stem = defaultdict(list)
            for entry, line in self._line_of_name.items():
                parts = _parts(entry)
                self._lines_of_stem[parts[-1]].append((line, parts))
        parts = _parts(name)
        found = _agreeing(parts, self._lines_of_stem.get(parts[-1], []))
        if not found and len(parts[-1]) == _YOUTUBE_ID_LENGTH + 1 and parts[-1].startswith("Y"):
            # downloaders put a Y before the id, as a file name should not start with a dash
            parts = (*parts[:-1], parts[-1][1:])
            found = _agreeing(parts, self._lines_of_stem.get(parts[-1], []))
        if not found:
            raise ValueError(f"{self.path}: no entry for {name}")
        if len(found) > 1:
            raise ValueError(f"{self.path}: lines {found[0]} and {found[1]} could both mean {name}")
        return found[0]


def _parts(name: str) -> tuple[str, ...]:
    """Folders and file name, without the extension (ids may hold dots, so only known extensions count as one)."""
    path = PurePosixPath(name.replace("\\", "/"))
    stem = path.stem if path.suffix.lower() in _AUDIO_SUFFIXES else path.name
    return (*(part for part in path.parts[:-1] if part != "/"), stem)


def _agreeing(parts: tuple[str, ...], entries: Sequence[tuple[int, tuple[str, ...]]]) -> list[int]:
    """Lines whose path is the end of this one, or the other way round; exact ones shut out the rest."""
    exact = [line for line, entry in entries if entry == parts]
    if exact:
        return exact
    shorter = [(line, entry, min(len(parts), len(entry))) for line, entry in entries]
    return [line for line, entry, length in shorter if entry[-length:] == parts[-length:]]
