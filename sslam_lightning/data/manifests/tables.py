"""Tables: rows quoted as in CSV, mostly below a header. The one way to read and to write them."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sslam_lightning.data.filesystem import open_binary
from sslam_lightning.runtime.atomic_write import new_file


@contextmanager
def open_text(path: str | Path, errors: str = "surrogateescape") -> Iterator[io.TextIOWrapper]:
    """A text file in UTF-8, by path or URL. Bytes that are no text stay what they are when the text is encoded again.

    With ``errors="strict"`` they are a ValueError that names the file.
    """
    with io.TextIOWrapper(open_binary(os.fspath(path)), encoding="utf-8-sig", errors=errors, newline="") as file:
        try:
            yield file
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: not a table in UTF-8 ({error})") from None


def split_header(line: str, separators: str = "\t,") -> tuple[list[str], str]:
    """The names of a table's columns, in lower case, and what separates them: the first that comes, or else the last."""
    separator = next((mark for mark in separators if mark in line), separators[-1])
    return [cell.strip().lower() for cell in next(csv.reader([line], delimiter=separator), [])], separator


def read_rows(
    file: Iterable[str], path: str | Path, separator: str, first_line: int = 1, skip_spaces: bool = False
) -> Iterator[tuple[int, list[str]]]:
    """The rows of an open table that are not blank, each with the line that it ends in.

    ``path`` is for messages, ``first_line`` the number of the line that comes first. Spaces behind a separator may be
    skipped.
    """
    rows = csv.reader(file, delimiter=separator, skipinitialspace=skip_spaces)
    try:
        for row in rows:
            if any(row):
                yield rows.line_num + first_line - 1, row
    except csv.Error as error:
        raise ValueError(f"{path}, line {rows.line_num + first_line - 1}: {error}") from error


class Table:
    """An open table with a header. Iterating gives line and cells of every row.

    A missing column and a row that is not as wide as the header are a ValueError, with file and line. ``separators`` are
    those that it may have; the first that comes in the header is its own.
    """

    def __init__(self, file: io.TextIOBase, path: str | Path, separators: str = "\t,") -> None:
        self._file, self.path = file, path
        self.header, self.separator = split_header(file.readline(), separators)

    def places(self, columns: Sequence[Sequence[str]]) -> list[int]:
        """Where these columns stand, each called by one of several names."""
        found = [next((self.header.index(name) for name in names if name in self.header), -1) for names in columns]
        absent = [" or ".join(names) for names, place in zip(columns, found, strict=True) if place < 0]
        if absent:
            raise ValueError(f"{self.path}: no column {', '.join(absent)} among {', '.join(self.header)}")
        return found

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        for line, row in read_rows(self._file, self.path, self.separator, first_line=2):
            if len(row) != len(self.header):
                raise self.malformed(line, row)
            yield line, row

    def malformed(self, line: int, row: list[str]) -> ValueError:
        """The error for a row that is not as the header says."""
        expected = ("<TAB>" if self.separator == "\t" else self.separator).join(self.header)
        return ValueError(f"{self.path}, line {line}: expected {expected}, got {self.separator.join(row)!r}")


def read_columns(
    path: str | Path, columns: Sequence[Sequence[str]], separators: str = ","
) -> Iterator[tuple[int, list[str]]]:
    """Line and cells of every row of a table, only those of some columns, each called by one of several names."""
    with open_text(path, errors="strict") as file:
        table = Table(file, path, separators)
        places = table.places(columns)
        for line, row in table:
            yield line, [row[place].strip() for place in places]


def write_table(path: str, header: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a ``.csv`` (commas) or ``.tsv`` (tabs) in UTF-8; names of files that are no text keep their bytes.

    OSError if it exists, or cannot be written.
    """
    with new_file(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="")
        writer = csv.writer(text, delimiter="," if path.endswith(".csv") else "\t", lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
        text.flush()
        text.detach()
