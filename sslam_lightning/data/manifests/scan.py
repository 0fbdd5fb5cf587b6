"""From a list of files to a manifest of those that are good, and a list of those that are not, with the reasons.

What was found out is kept in a journal beside the manifest to be, so an interrupted scan goes on where it was. The
manifest appears when all files have been looked at.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from typing import NamedTuple

from sslam_lightning.data.audio.read import AUDIO_EXTENSIONS
from sslam_lightning.data.files import walk
from sslam_lightning.data.filesystem import is_url, join
from sslam_lightning.data.manifests.inspection import Found, Rejected, Standards, inspect
from sslam_lightning.data.manifests.labels import LABEL_SEPARATOR, check_separable
from sslam_lightning.data.manifests.recordings import Recordings, make_recordings
from sslam_lightning.data.manifests.tables import write_table
from sslam_lightning.data.progress_log import Journal
from sslam_lightning.runtime.atomic_write import refuse_existing


class Scanned(NamedTuple):
    """What became of the files."""

    manifest: str
    rejected: str  # the list of those that are no good
    num_good: int
    num_seconds: float
    num_resumed: int  # files that an earlier run had looked at
    reasons: Counter[str]  # of the bad ones, without their details


def list_folder(folder: str) -> tuple[Recordings, Counter[str]]:
    """The audio files under a folder (see `walk`), in the order of their names; the other files counted by extension."""
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
    return make_recordings(folder, sorted(names), [()] * len(names), ()), others


def write_manifest(
    recordings: Recordings, manifest: str, standards: Standards, workers: int = 0, what: str = "scan"
) -> Scanned:
    """Look at every file; write a manifest (``.tsv`` or ``.csv``) of the good ones and ``*.rejected.tsv`` beside it.

    FileExistsError if there is one of them; ValueError for another extension, a standard out of its range, a label that
    holds a semicolon, or no good file. ``what`` goes before the progress bar.
    """
    standards.check()
    check_separable(recordings.class_names, recordings.root)
    stem, extension = os.path.splitext(manifest)
    if extension not in (".tsv", ".csv"):
        raise ValueError(f"a manifest is a .tsv or a .csv, got {manifest}")
    rejected = f"{stem}.rejected.tsv"
    refuse_existing(manifest, rejected)

    def crashed(row: int) -> Rejected:
        return Rejected(recordings.names[row], "crashed the decoder")

    settings = {"recordings": recordings.fingerprint(), **standards._asdict()}
    with closing(Journal(f"{manifest}.journal", settings)) as journal:
        journal.run(partial(_look, recordings, standards), len(recordings), workers, what, crashed=crashed)
        scanned = _write(recordings, manifest, rejected, journal)
        journal.remove()
    if not scanned.num_good:
        raise ValueError(f"none of the {len(recordings)} files is good, so there is no manifest; {rejected} says why")
    return scanned


def _look(recordings: Recordings, standards: Standards, row: int) -> Found | Rejected:
    labels = LABEL_SEPARATOR.join(recordings.class_names[number] for number in recordings.classes(row))
    return inspect(recordings.root, recordings.names[row], labels, standards)


def _write(recordings: Recordings, manifest: str, rejected: str, journal: Journal) -> Scanned:
    folder = os.path.dirname(manifest) or "."

    def results() -> Iterator[Found | Rejected]:
        for name, *cells in journal.results():
            path = _relative_name(join(recordings.root, name), folder)
            yield Found(path, *cells) if len(cells) == len(Found._fields) - 1 else Rejected(path, *cells)

    def good() -> Iterator[Found]:
        return (result for result in results() if isinstance(result, Found))

    bad = [result for result in results() if isinstance(result, Rejected)]
    if bad:
        write_table(rejected, Rejected._fields, bad)
    if len(bad) < len(recordings):
        columns = Found._fields if len(recordings.label_index) else Found._fields[:-1]
        write_table(manifest, columns, (found[: len(columns)] for found in good()))
    reasons = Counter(re.split(r":| \(", result.reason)[0] for result in bad)
    seconds = sum(found.seconds for found in good())
    return Scanned(manifest, rejected, len(recordings) - len(bad), seconds, journal.num_done, reasons)


def _relative_name(path: str, folder: str) -> str:
    """How a manifest in ``folder`` calls a file: relative if it lies in the folder, as it moves with it; else in full."""
    if is_url(path):
        return path.removeprefix(folder.rstrip("/") + "/")
    path, folder = os.path.abspath(path), os.path.abspath(folder)
    return os.path.relpath(path, folder) if os.path.commonpath([path, folder]) == folder else path
