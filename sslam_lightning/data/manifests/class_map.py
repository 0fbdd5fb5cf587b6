"""The table of classes: which number and which name a label of a manifest stands for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from sslam_lightning.class_names import check_class_names
from sslam_lightning.data.filesystem import exists, local_path
from sslam_lightning.data.manifests.tables import open_text, read_rows, split_header

# What headers of known tables call a column, most telling first.
_NUMBERS = ("index", "class_index", "label_index", "class_id", "classid", "label_id", "target", "idx", "number", "id")
_NAMES = ("display_name", "name", "class_name", "label_name", "category", "class", "label", "mid", "mids")
_LABELS = ("mid", "mids", "label", "class", "category", "class_name", "label_name", "id", "name", "display_name")
_MID = re.compile(r"/[a-z]/\w+")  # how AudioSet calls a class, such as /m/09x0r


class ClassTable(NamedTuple):
    """Classes by number, and every word that a label file may call them by."""

    names: tuple[str, ...]  # for people, in the order of the model's outputs
    class_of: dict[str, int]  # by label and by name


class Columns(NamedTuple):
    """Where a table has a class's number, the word that labels it, and its name for people."""

    number: int
    label: int
    name: int
    told: str = "index,mid,name or index,label or label,index"  # for messages


def table_of_words(words: Iterable[str]) -> ClassTable:
    """The table of labels that nobody has numbered: in alphabetical order."""
    names = tuple(sorted({word for word in words if word}))
    return ClassTable(names, {name: number for number, name in enumerate(names)})


def read_class_table(path: str | Path) -> ClassTable:
    """Read a ``class_map.csv``, separated by commas or tabs.

    A header says which column holds the number (``index``, ``target``, ...), the label (``mid``, ``label``, ...) and the
    name (``display_name``, ``category``, ...), in any order and among others: AudioSet's class_labels_indices.csv, FSD50K's
    vocabulary.csv, ESC-50's esc50.csv. Without a known header, columns are ``index,mid,name`` (``index,name,mid`` where
    AudioSet's ids stand last; further ones are ignored), ``index,label`` or ``label,index`` (fairseq).

    Raises:
        FileNotFoundError: no such file.
        ValueError: a row of another form (with its line), a number or a label of two classes, a gap in the numbers, a name
            with a control character.
    """
    path = local_path(path)
    if not exists(path):
        raise FileNotFoundError(
            f"label descriptors {path} do not exist (data.class_map; `sslam data import` and `stats` write them)"
        )
    with open_text(path, errors="strict") as file:
        _, separator = split_header(file.readline())
        file.seek(0)
        # AudioSet puts spaces behind its commas in some of its tables
        rows = [(line, [cell.strip() for cell in row]) for line, row in read_rows(file, path, separator, skip_spaces=True)]
    header: list[str] = []
    if rows and not any(map(_is_number, rows[0][1])):
        header, rows = rows[0][1], rows[1:]
    if not rows:
        raise ValueError(f"{path}: no classes in it")
    cells = [row for _, row in rows]
    table = _numbered(path, rows, _named_columns(header, cells) or _columns_by_place(path, cells))
    check_class_names(table.class_of, path)
    return table


def _numbered(path: str, rows: list[tuple[int, list[str]]], columns: Columns) -> ClassTable:
    words: dict[int, tuple[str, str]] = {}  # label and name by number
    class_of: dict[str, int] = {}
    for line, row in rows:
        if len(row) <= max(columns.number, columns.label) or not _is_number(row[columns.number]):
            raise ValueError(f"{path}, line {line}: expected {columns.told}, got {row}")
        number, label = int(row[columns.number]), row[columns.label]
        name = (row[columns.name] if len(row) > columns.name else "") or label
        if words.setdefault(number, (label, name)) != (label, name):
            raise ValueError(f"{path}, line {line}: class {number} comes twice, as {words[number][1]!r} and {name!r}")
        for word in {label, name}:
            if class_of.setdefault(word, number) != number:
                raise ValueError(f"{path}, line {line}: {word!r} stands for class {class_of[word]} and class {number}")
    if sorted(words) != list(range(len(words))):
        missing = next(i for i in range(len(words)) if i not in words)
        raise ValueError(f"{path}: classes must be numbered from 0 without a gap, class {missing} is missing")
    return ClassTable(tuple(words[i][1] for i in range(len(words))), class_of)


def _named_columns(header: list[str], rows: list[list[str]]) -> Columns | None:
    names = [re.sub(r"\W+", "_", cell.lower()) for cell in header]

    def first(known: tuple[str, ...], taken: int | None = None) -> int | None:
        places = (names.index(name) for name in known if name in names)
        return next((place for place in places if place != taken), None)

    numeric = tuple(name for name in _NUMBERS if name in names and _all_numbers(rows, names.index(name)))
    number = first(numeric)
    name = first(_NAMES, number)
    if number is None or name is None:
        return None
    label = first(tuple(known for known in _LABELS if known != names[name]), number)
    return Columns(number, name if label is None else label, name, ",".join(header))


def _columns_by_place(path: str, rows: list[list[str]]) -> Columns:
    if any(len(row) > 2 for row in rows):
        wide = [row for row in rows if len(row) > 2]
        mids_are_last = all(_MID.fullmatch(row[2]) for row in wide) and not all(_MID.fullmatch(row[1]) for row in wide)
        return Columns(0, 2, 1) if mids_are_last else Columns(0, 1, 2)
    numeric = [_all_numbers(rows, column) for column in (0, 1)]
    if all(numeric) and any(row[0] != row[1] for row in rows):
        raise ValueError(f"{path}: both columns are numbers, so it is unclear which is the class; use index,mid,name")
    number = 1 if numeric[1] else 0
    return Columns(number, 1 - number, 1 - number)


def _all_numbers(rows: list[list[str]], column: int) -> bool:
    return all(len(row) > column and _is_number(row[column]) for row in rows)


def _is_number(cell: str) -> bool:
    return cell.isascii() and cell.isdigit()
