"""Manifests: which recordings there are, and their labels. Two forms are read, told apart by the first line.

- A table with a header, separated by tabs or commas, as ``sslam data scan`` writes it: ``path`` (relative to the
  manifest's own folder, absolute, or a URL) and, where there are labels, ``labels`` (separated by semicolons). Other
  columns (seconds, sample_rate_hz, channels, frames) are for people. Cells are quoted as in CSV.
- fairseq's ``.tsv``, as AudioSet is handed around: the root folder, then ``path<TAB>samples`` a row, with labels in a
  ``.lbl`` beside it.

Either may lie anywhere that fsspec opens. Two million rows take a few seconds and about 100 MB.
"""

from __future__ import annotations

import csv
import io
import logging
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from sslam_lightning.data.descriptors import ClassTable, table_of_words
from sslam_lightning.data.labels import LABEL_SEPARATOR, read_labels, words_of
from sslam_lightning.data.packed import CHUNK, PackedClasses, PackedStrings, StringPacker
from sslam_lightning.data.recordings import Recordings, make_recordings
from sslam_lightning.data.storage import exists, is_url, join, list_names, local_path, open_binary, parent

MissingFiles = Literal["error", "skip"]
_NO_HASH = -1  # Python's hash is never this

_log = logging.getLogger(__name__)


class Rows(NamedTuple):
    """A manifest as it is written."""

    root: str
    names: PackedStrings
    labels: PackedStrings | None  # as they are written; None: not in this file


def read_manifest(
    manifest: str | Path,
    labels: str | Path | None = None,
    table: ClassTable | None = None,
    missing_files: MissingFiles = "error",
) -> Recordings:
    """Read a manifest and, where a table of classes is given, the labels.

    Args:
        manifest: of either form, path or URL; a relative root in it starts at the manifest's own folder.
        labels: a ``.lbl``; None: the manifest's own labels, or the ``.lbl`` beside it, of the same stem.
        table: the classes; None: recordings without labels, and no label is read.
        missing_files: a row whose file does not exist stops ("error") or is left out with its label ("skip").

    Raises:
        FileNotFoundError: no such manifest, root folder or ``.lbl``; or a file of a row ("error").
        ValueError: an empty manifest, one that changes while it is read, a malformed row, or labels that do not fit (see
            `read_labels`).
    """
    if missing_files not in ("error", "skip"):
        raise ValueError(f"missing_files must be 'error' or 'skip', got {missing_files!r}")
    manifest = local_path(manifest)
    root, names, written = read_rows(manifest)
    missing = missing_rows(root, names)
    if missing:
        message = f"{manifest}: {len(missing)} of {len(names)} files do not exist"
        if missing_files == "error":
            raise FileNotFoundError(f"{message}, the first is {join(root, names[min(missing)])}")
        if len(missing) == len(names):
            raise FileNotFoundError(f"{message}, so nothing is left")
        _log.warning("%s and are skipped, together with their labels", message)
        names = PackedStrings(name for row, name in enumerate(names) if row not in missing)
        if written is not None:
            written = PackedStrings(text for row, text in enumerate(written) if row not in missing)
    if table is None:
        return make_recordings(root, names, [()] * len(names), ())
    if written is not None and labels is None:
        return make_recordings(root, names, _classes(manifest, names, written, table), table.names)
    classes = read_labels(labels or os.path.splitext(manifest)[0] + ".lbl", names, table)
    return make_recordings(root, names, classes, table.names)


def read_labelled(manifest: str | Path, labels: str | Path | None = None) -> Recordings:
    """Read a manifest with all its labels, whatever they are: its classes are the words that come in it, in their order.

    Args:
        manifest: as for `read_manifest`. Files that do not exist stay in.
        labels: a ``.lbl``; None: labels in the manifest, or in the ``.lbl`` beside it if there is one, or none.
    """
    manifest = local_path(manifest)
    root, names, written = read_rows(manifest)
    if written is not None and labels is None:
        table = table_of_words(word.strip() for text in set(written) for word in text.split(LABEL_SEPARATOR))
        return make_recordings(root, names, _classes(manifest, names, written, table), table.names)
    given, labels = labels, local_path(labels or os.path.splitext(manifest)[0] + ".lbl")
    if given is None and not exists(labels):
        return make_recordings(root, names, [()] * len(names), ())
    table = table_of_words(words_of(labels))
    return make_recordings(root, names, read_labels(labels, names, table), table.names)


def read_rows(manifest: str) -> Rows:
    """Read a manifest of either form, without looking at its files.

    Raises:
        FileNotFoundError: no such manifest or root folder.
        ValueError: a folder, an empty manifest, one that changes while it is read, a malformed row.
    """
    if os.path.isdir(manifest):
        raise ValueError(f"{manifest} is a folder, not a manifest: `sslam data scan {manifest}` writes one of it")
    if not exists(manifest):
        raise FileNotFoundError(f"manifest {manifest} does not exist (`sslam data scan FOLDER` writes one)")
    with _unchanging(manifest) as file:
        first = file.readline()
        if not first.strip():
            raise ValueError(
                f"{manifest}: empty manifest; its first line must be a header with a column 'path', or the root folder"
            )
        separator = "\t" if "\t" in first else ","
        header = [cell.strip().lower() for cell in next(csv.reader([first], delimiter=separator))]
        if "path" in header and len(header) > 1:
            rows = _read_table(manifest, file, header, separator)
        else:
            rows = _read_fairseq(manifest, file, first.rstrip("\r\n"))
    if not len(rows.names):
        raise ValueError(f"{manifest}: empty manifest; no rows behind the first line")
    if not is_url(rows.root) and not os.path.isdir(rows.root):
        raise FileNotFoundError(f"{manifest}: its root folder {rows.root} does not exist")
    return rows


def _read_table(manifest: str, file: Iterable[str], header: list[str], separator: str) -> Rows:
    path_column = header.index("path")
    label_column = header.index("labels") if "labels" in header else None
    columns = [path_column] if label_column is None else [path_column, label_column]
    reader = csv.reader(file, delimiter=separator)
    packers = [StringPacker() for _ in columns]
    waiting: list[list[str]] = [[] for _ in columns]  # cells alone: rows that wait would keep the garbage collector busy

    def pack() -> None:
        for packer, cells in zip(packers, waiting, strict=True):
            packer.extend(cells)
            cells.clear()

    try:
        for row in reader:
            if not row:
                continue
            if len(row) != len(header) or not row[path_column]:
                line = reader.line_num + 1
                raise ValueError(f"{manifest}, line {line}: expected {separator.join(header)}, got {separator.join(row)!r}")
            for column, cells in zip(columns, waiting, strict=True):
                cells.append(row[column])
            if len(waiting[0]) == CHUNK:
                pack()
    except csv.Error as error:
        raise ValueError(f"{manifest}, line {reader.line_num + 1}: {error}") from error
    pack()
    paths, *labels = (packer.packed() for packer in packers)
    return Rows(parent(manifest) or ".", paths, labels[0] if labels else None)


def _read_fairseq(manifest: str, file: Iterable[str], first: str) -> Rows:
    if "\t" in first:
        raise ValueError(f"{manifest}, line 1: expected the root folder or a header with a column 'path', got {first!r}")

    def names() -> Iterator[str]:
        for line, text in enumerate(file, start=2):
            text = text.rstrip("\r\n")
            if not text.strip():
                continue
            name, _, samples = text.partition("\t")
            if not name or not samples.strip().isdigit():
                raise ValueError(f"{manifest}, line {line}: expected 'path<TAB>samples', got {text!r}")
            yield name

    return Rows(join(parent(manifest), first.strip()), PackedStrings(names()), None)  # an absolute root stays as it is


@contextmanager
def _unchanging(manifest: str) -> Iterator[io.TextIOWrapper]:
    """The text of a manifest; refused if somebody writes to it or replaces it meanwhile."""
    before = None if is_url(manifest) else os.stat(manifest)
    with io.TextIOWrapper(open_binary(manifest), encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        yield file
    if before is not None:
        after = os.stat(manifest)
        if (before.st_ino, before.st_size, before.st_mtime_ns) != (after.st_ino, after.st_size, after.st_mtime_ns):
            raise ValueError(f"{manifest} changed while it was read: start again when nothing writes to it any more")


def _classes(manifest: str, names: PackedStrings, written: PackedStrings, table: ClassTable) -> PackedClasses:
    def explain(row: int, label: str) -> ValueError:
        return ValueError(f"{manifest}: label {label!r} of {names[row]} is not among the label descriptors")

    return PackedClasses.of_texts(written, LABEL_SEPARATOR, table.class_of, explain)


def missing_rows(root: str, names: Sequence[str]) -> set[int]:
    """Rows of ``names``, relative to ``root``, without a file; none where the storage cannot list its folders.

    Lists each folder once, as millions of single questions are slow on network storage, and keeps hashes instead of
    names, as two listings of millions of names are large.
    """
    number_of: dict[str, int] = {}
    folders, hashes = array("l"), array("q")
    for name in names:
        folder, _, file_name = name.rpartition("/")
        folders.append(number_of.setdefault(folder, len(number_of)))
        hashes.append(hash(file_name))
    folder_of, hash_of = np.array(folders), np.array(hashes)
    order = np.argsort(folder_of, kind="stable")
    bounds = np.searchsorted(folder_of[order], np.arange(len(number_of) + 1))
    missing: set[int] = set()
    for folder, number in number_of.items():
        listing = list_names(join(root, folder or ("/" if names[order[bounds[number]]].startswith("/") else "")))
        if listing is None:
            continue
        present = np.append(np.sort(np.fromiter(map(hash, listing), dtype=np.int64, count=len(listing))), _NO_HASH)
        rows = order[bounds[number] : bounds[number + 1]]
        # some file systems do not tell upper from lower case or normalise names, so the listing can only acquit
        unlisted = rows[present[np.searchsorted(present[:-1], hash_of[rows])] != hash_of[rows]]
        missing.update(int(row) for row in unlisted if not exists(join(root, names[int(row)])))
    return missing
