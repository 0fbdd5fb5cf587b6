"""Manifests: which recordings there are, and their labels. Two forms are read, told apart by the first line.

- A table with a header, separated by tabs or commas, as ``sslam data scan`` writes it: ``path`` (relative to the
  manifest's own folder, absolute, or a URL) and, where there are labels, ``labels`` (separated by semicolons). Other
  columns (seconds, sample_rate_hz, channels, frames) are for people. Cells are quoted as in CSV.
- fairseq's ``.tsv``, as AudioSet is handed around: the root folder, then ``path<TAB>samples`` a row, with labels in a
  ``.lbl`` beside it.

Either may lie anywhere that fsspec opens. Two million rows take a few seconds and about 100 MB.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Literal, NamedTuple

from sslam_lightning.data.filesystem import exists, is_url, join, list_names, local_path, parent
from sslam_lightning.data.manifests.class_map import ClassTable, table_of_words
from sslam_lightning.data.manifests.labels import LABEL_SEPARATOR, read_labels, words_of
from sslam_lightning.data.manifests.recordings import Recordings, make_recordings
from sslam_lightning.data.manifests.tables import Table, open_text, split_header
from sslam_lightning.data.shards.packed import PackedClasses, PackedStrings

MissingFiles = Literal["error", "skip"]

_log = logging.getLogger(__name__)


class _Rows(NamedTuple):
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
        ValueError: an empty manifest, one that changes while it is read, a malformed row, or labels that do not fit.
    """
    if missing_files not in ("error", "skip"):
        raise ValueError(f"missing_files must be 'error' or 'skip', got {missing_files!r}")
    manifest = local_path(manifest)
    rows = _without_missing(manifest, _read_rows(manifest), missing_files)
    if table is None:
        return make_recordings(rows.root, rows.names, [()] * len(rows.names), ())
    return _labeled(manifest, rows, labels, table)


def read_labeled(manifest: str | Path, labels: str | Path | None = None) -> Recordings:
    """Read a manifest with all its labels, whatever they are, as `read_manifest` does; files that do not exist stay in.

    Its classes are the words that come in it, in alphabetical order; there are none where it has no labels.
    """
    manifest = local_path(manifest)
    rows = _read_rows(manifest)
    if rows.labels is not None and labels is None:
        table = table_of_words(word.strip() for text in set(rows.labels) for word in text.split(LABEL_SEPARATOR))
    elif labels is None and not exists(_label_file(manifest)):
        return make_recordings(rows.root, rows.names, [()] * len(rows.names), ())
    else:
        table = table_of_words(words_of(local_path(labels or _label_file(manifest))))
    return _labeled(manifest, rows, labels, table)


def _label_file(manifest: str) -> str:
    """Where a manifest without a column ``labels`` has them."""
    return os.path.splitext(manifest)[0] + ".lbl"


def _labeled(manifest: str, rows: _Rows, labels: str | Path | None, table: ClassTable) -> Recordings:
    def explain(row: int, label: str) -> ValueError:
        return ValueError(f"{manifest}: label {label!r} of {rows.names[row]} is not among the label descriptors")

    if rows.labels is not None and labels is None:
        classes = PackedClasses.of_texts(rows.labels, LABEL_SEPARATOR, table.class_of, explain)
    else:
        classes = read_labels(labels or _label_file(manifest), rows.names, table)
    return make_recordings(rows.root, rows.names, classes, table.names)


def _without_missing(manifest: str, rows: _Rows, missing_files: MissingFiles) -> _Rows:
    root, names, labels = rows
    missing = missing_rows(root, names)
    if not missing:
        return rows
    message = f"{manifest}: {len(missing)} of {len(names)} files do not exist"
    if missing_files == "error":
        raise FileNotFoundError(f"{message}, the first is {join(root, names[min(missing)])}")
    if len(missing) == len(names):
        raise FileNotFoundError(f"{message}, so nothing is left")
    _log.warning("%s and are skipped, together with their labels", message)

    def kept(cells: PackedStrings) -> PackedStrings:
        return PackedStrings(cell for row, cell in enumerate(cells) if row not in missing)

    return _Rows(root, kept(names), None if labels is None else kept(labels))


def _read_rows(manifest: str) -> _Rows:
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
        header, _ = split_header(first)
        if "path" in header and len(header) > 1:
            file.seek(0)
            rows = _read_table(Table(file, manifest))
        else:
            rows = _read_fairseq(manifest, file, first.rstrip("\r\n"))
    if not len(rows.names):
        raise ValueError(f"{manifest}: empty manifest; no rows behind the first line")
    if not is_url(rows.root) and not os.path.isdir(rows.root):
        raise FileNotFoundError(f"{manifest}: its root folder {rows.root} does not exist")
    return rows


def _read_table(table: Table) -> _Rows:
    columns = [table.header.index(name) for name in ("path", "labels") if name in table.header]

    def cells() -> Iterator[tuple[str, ...]]:  # no lists, which the garbage collector would look at again and again
        for line, row in table:
            if not row[columns[0]]:
                raise table.malformed(line, row)
            yield tuple(map(row.__getitem__, columns))

    names, *labels = PackedStrings.of_columns(cells()) or [PackedStrings(())]
    return _Rows(parent(str(table.path)) or ".", names, labels[0] if labels else None)


def _read_fairseq(manifest: str, file: Iterable[str], first: str) -> _Rows:
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

    return _Rows(join(parent(manifest), first.strip()), PackedStrings(names()), None)  # an absolute root stays as it is


@contextmanager
def _unchanging(manifest: str) -> Iterator[TextIOWrapper]:
    """The text of a manifest; refused if somebody writes to it or replaces it meanwhile."""
    before = None if is_url(manifest) else os.stat(manifest)
    with open_text(manifest) as file:
        yield file
    if before is not None:
        after = os.stat(manifest)
        if (before.st_ino, before.st_size, before.st_mtime_ns) != (after.st_ino, after.st_size, after.st_mtime_ns):
            raise ValueError(f"{manifest} changed while it was read: start again when nothing writes to it any more")


def missing_rows(root: str, names: Sequence[str]) -> set[int]:
    """Rows of ``names``, relative to ``root``, without a file; none where the storage cannot list its folders.

    Lists each folder once, as millions of single questions are slow on network storage.
    """
    listings: dict[str, set[str] | None] = {}
    missing: set[int] = set()
    for row, name in enumerate(names):
        folder, _, file_name = name.rpartition("/")
        if folder not in listings:
            listings[folder] = list_names(join(root, folder or ("/" if name.startswith("/") else "")))
        listing = listings[folder]
        # some file systems do not tell upper from lower case or normalize names, so the listing can only acquit
        if listing is not None and file_name not in listing and not exists(join(root, name)):
            missing.add(row)
    return missing
