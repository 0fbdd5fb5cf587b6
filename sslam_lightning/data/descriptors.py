"""The table of classes: which number and which name a label of a manifest stands for."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from sslam_lightning.class_names import check_class_names
from sslam_lightning.data.storage import exists, local_path, open_binary


class ClassTable(NamedTuple):
    """Classes by number, and every word that a label file may call them by."""

    names: tuple[str, ...]  # for people, in the order of the model's outputs
    class_of: dict[str, int]  # by label and by name


def table_of_words(words: Iterable[str]) -> ClassTable:
    """The table of labels that nobody has numbered: in alphabetical order."""
    names = tuple(sorted({word for word in words if word}))
    return ClassTable(names, {name: number for number, name in enumerate(names)})


def read_class_table(path: str | Path) -> ClassTable:
    """Read a ``label_descriptors.csv``.

    Known forms, with or without a header line: ``index,mid,name`` (AudioSet's class_labels_indices.csv; further
    columns are ignored), ``index,label`` and ``label,index`` (fairseq), separated by commas or tabs.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a row of another form (with its line), a number or a label that comes twice, a gap in the numbers,
            a name with a control character.
    """
    path = local_path(path)
    if not exists(path):
        raise FileNotFoundError(
            f"label descriptors {path} do not exist (data.label_descriptors; `sslam data import` and `stats` write them)"
        )
    try:
        rows = _read_rows(path)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no table of classes (index,mid,name): {error}") from None
    if rows and not any(_is_number(cell) for cell in rows[0][1][:2]):
        rows = rows[1:]  # a header
    if not rows:
        raise ValueError(f"{path}: no classes in it")
    number_column = _number_column(path, rows)
    names: dict[int, str] = {}
    class_of: dict[str, int] = {}
    for line, row in rows:
        if len(row) < 2 or not _is_number(row[number_column]):
            raise ValueError(f"{path}, line {line}: expected index,mid,name or index,label or label,index, got {row}")
        number, label = int(row[number_column]), row[1 - number_column]
        if number in names:
            raise ValueError(f"{path}, line {line}: class {number} comes twice")
        names[number] = row[2] if len(row) > 2 and row[2] else label
        for word in {label, names[number]}:
            if class_of.setdefault(word, number) != number:
                raise ValueError(f"{path}, line {line}: {word!r} stands for class {class_of[word]} and class {number}")
    if sorted(names) != list(range(len(names))):
        missing = next(i for i in range(len(names)) if i not in names)
        raise ValueError(f"{path}: classes must be numbered from 0 without a gap, class {missing} is missing")
    check_class_names(class_of, path)
    return ClassTable(tuple(names[i] for i in range(len(names))), class_of)


def _read_rows(path: str) -> list[tuple[int, list[str]]]:
    with io.TextIOWrapper(open_binary(path), encoding="utf-8-sig", newline="") as file:
        first = file.readline()
        file.seek(0)
        # AudioSet puts spaces behind its commas in some of its tables
        reader = csv.reader(file, delimiter="\t" if "\t" in first else ",", skipinitialspace=True)
        return [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]


def _number_column(path: str, rows: list[tuple[int, list[str]]]) -> int:
    if any(len(row) > 2 for _, row in rows):
        return 0
    numeric = [all(len(row) > column and _is_number(row[column]) for _, row in rows) for column in (0, 1)]
    if all(numeric) and any(row[0] != row[1] for _, row in rows):
        raise ValueError(f"{path}: both columns are numbers, so it is unclear which is the class; use index,mid,name")
    return 1 if numeric[1] else 0


def _is_number(cell: str) -> bool:
    return cell.isascii() and cell.isdigit()
