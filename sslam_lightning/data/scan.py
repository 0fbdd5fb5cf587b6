"""From a list of files to a manifest of those that are good, and a list of those that are not, with the reasons.

What was found out is kept in a journal beside the manifest to be (one JSON array a line), so an interrupted scan goes on
where it was. The manifest appears when all files have been looked at.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import chain
from typing import NamedTuple

from sslam_lightning.data.audio import AUDIO_EXTENSIONS
from sslam_lightning.data.durable import refuse_existing
from sslam_lightning.data.files import walk
from sslam_lightning.data.inspection import Found, Standards, inspect, relative_name
from sslam_lightning.data.journal import Journal, fingerprint
from sslam_lightning.data.labels import LABEL_SEPARATOR, check_separable
from sslam_lightning.data.packed import PackedStrings
from sslam_lightning.data.parallel import ordered_map, progress
from sslam_lightning.data.recordings import Recordings
from sslam_lightning.data.rejected import Rejected, write_rejected
from sslam_lightning.data.storage import join
from sslam_lightning.data.tables import write_table


class Listing(NamedTuple):
    """Files to look at."""

    root: str
    names: PackedStrings  # relative to root
    labels: PackedStrings  # as they will stand in the manifest


class Scanned(NamedTuple):
    """What became of the files."""

    manifest: str
    rejected: str  # the list of those that are no good
    num_good: int
    num_seconds: float
    num_resumed: int  # files that an earlier run had looked at
    reasons: Counter[str]  # of the bad ones, without their details


class _Work(NamedTuple):
    listing: Listing
    standards: Standards


def list_folder(folder: str) -> tuple[Listing, Counter[str]]:
    """The audio files under a folder, in the order of their names, and the other files counted by extension.

    What is looked at, says `sslam_lightning.data.files.walk`.

    Raises:
        FileNotFoundError: no such folder, or no audio in it.
        NotADirectoryError: it is a file.
        OSError: a folder in it cannot be listed.
    """
    if os.path.isfile(folder):
        raise NotADirectoryError(f"{folder} is a file: recordings are looked for in a folder")
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"folder {folder} does not exist")
    names: list[str] = []
    others: Counter[str] = Counter()
    for name in walk(folder):
        extension = os.path.splitext(name)[1].lower()
        if extension in AUDIO_EXTENSIONS:
            names.append(name)
        else:
            others[extension or "no extension"] += 1
    if not names:
        raise FileNotFoundError(f"no audio files under {folder}: looked for {' '.join(sorted(AUDIO_EXTENSIONS))}")
    names.sort()
    return Listing(folder, PackedStrings(names), PackedStrings([""] * len(names))), others


def listing_of(recordings: Recordings) -> Listing:
    """The files of recordings, with the labels that they have.

    Raises:
        ValueError: a label that a manifest would tear apart.
    """
    words = recordings.class_names
    check_separable(words, recordings.root)
    joined = (LABEL_SEPARATOR.join(words[i] for i in recordings.classes(row)) for row in range(len(recordings)))
    return Listing(recordings.root, recordings.names, PackedStrings(joined))


def write_manifest(listing: Listing, manifest: str, standards: Standards, workers: int = 0, what: str = "scan") -> Scanned:
    """Look at every file of a listing; write a manifest of the good ones and ``*.rejected.tsv`` beside it.

    Args:
        listing: files and their labels.
        manifest: a new ``.tsv`` or ``.csv``.
        standards: what a recording must be.
        workers: processes.
        what: goes before the progress bar.

    Raises:
        FileExistsError: the manifest exists already.
        ValueError: another extension, or a standard out of its range.
        OSError: the disk is full, the folder read-only.
    """
    standards.check()
    stem, extension = os.path.splitext(manifest)
    if extension not in (".tsv", ".csv"):
        raise ValueError(f"a manifest is a .tsv or a .csv, got {manifest}")
    rejected = f"{stem}.rejected.tsv"
    refuse_existing(manifest, rejected)
    settings = {
        "root": os.path.abspath(listing.root),
        "files": fingerprint(listing.names, listing.labels),
        **standards._asdict(),
    }
    journal = Journal(f"{manifest}.journal", settings)
    rows = range(journal.num_done, len(listing.names))
    with (
        closing(journal),
        progress(len(listing.names), what, unit="file", done=journal.num_done) as bar,
    ):
        for result in ordered_map(_look, _Work(listing, standards), rows, workers, _crashed):
            journal.append(result)
            bar.update()
        scanned = _write(listing, manifest, rejected, journal)
        journal.remove()
    if not scanned.num_good:
        raise ValueError(f"none of the {len(listing.names)} files is good, so there is no manifest; {rejected} says why")
    return scanned


def _look(work: _Work, row: int) -> Found | Rejected | int:
    return inspect(work.listing.root, work.listing.names[row], work.listing.labels[row], work.standards)


def _crashed(row: int) -> int:
    return row  # stands for the file that ended a process: a decoder crashed


def _write(listing: Listing, manifest: str, rejected: str, journal: Journal) -> Scanned:
    folder = os.path.dirname(manifest) or "."
    seconds, num_good = 0.0, 0
    reasons: Counter[str] = Counter()
    columns = Found._fields if any(listing.labels) else Found._fields[:-1]

    def results() -> Iterator[Found | Rejected]:
        for cells in journal.results():
            if isinstance(cells, int):
                cells = [listing.names[cells], "crashed the decoder"]
            cells[0] = relative_name(join(listing.root, cells[0]), folder)
            yield Found(*cells) if len(cells) == len(Found._fields) else Rejected(*cells)

    def good_rows() -> Iterator[tuple[object, ...]]:
        nonlocal seconds, num_good
        for result in results():
            if isinstance(result, Found):
                seconds, num_good = seconds + result.seconds, num_good + 1
                yield result[: len(columns)]

    bad = (result for result in results() if isinstance(result, Rejected))
    first = next(bad, None)
    if first is not None:
        write_rejected(rejected, _counted(chain([first], bad), reasons))
    if reasons.total() < len(listing.names):
        write_table(manifest, columns, good_rows())
    return Scanned(manifest, rejected, num_good, seconds, journal.num_done, reasons)


def _counted(rejected: Iterable[Rejected], reasons: Counter[str]) -> Iterator[Rejected]:
    for row in rejected:
        reasons[row.reason.partition(":")[0]] += 1
        yield row
