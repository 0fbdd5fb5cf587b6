"""Manifests in fairseq's form, as AudioSet is handed around: a ``.tsv`` of files, a ``.lbl`` of their labels.

The first line of a ``.tsv`` is the root folder; every further line is ``path<TAB>samples``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from sslam_lightning.data.descriptors import ClassTable
from sslam_lightning.data.labels import read_labels
from sslam_lightning.data.recordings import Recordings, make_recordings

MissingFiles = Literal["error", "skip"]

_log = logging.getLogger(__name__)


def read_manifest(
    manifest: str | Path,
    labels: str | Path | None = None,
    table: ClassTable | None = None,
    missing_files: MissingFiles = "error",
) -> Recordings:
    """Read a ``.tsv`` and, where a table of classes is given, its ``.lbl``.

    Args:
        manifest: the ``.tsv``; a relative root in it starts at the manifest's own folder.
        labels: the ``.lbl``; None: the one beside the manifest, of the same stem.
        table: the classes; None: recordings without labels, and no ``.lbl`` is read.
        missing_files: a row whose file does not exist stops ("error") or is left out with its label ("skip").

    Raises:
        FileNotFoundError: no such manifest, root folder or ``.lbl``; or a file of a row ("error").
        ValueError: an empty manifest, a malformed row, or labels that do not fit (see `read_labels`).
    """
    if missing_files not in ("error", "skip"):
        raise ValueError(f"missing_files must be 'error' or 'skip', got {missing_files!r}")
    manifest = Path(manifest)
    root, names = _read_rows(manifest)
    missing = missing_rows(root, names)
    if missing:
        message = f"{manifest}: {len(missing)} of {len(names)} files do not exist"
        if missing_files == "error":
            raise FileNotFoundError(f"{message}, the first is {os.path.join(root, names[min(missing)])}")
        if len(missing) == len(names):
            raise FileNotFoundError(f"{message}, so nothing is left")
        _log.warning("%s and are skipped, together with their labels", message)
        names = [name for row, name in enumerate(names) if row not in missing]
    if table is None:
        return make_recordings(root, names, [()] * len(names), ())
    classes = read_labels(labels or manifest.with_suffix(".lbl"), names, table)
    return make_recordings(root, names, classes, table.names)


def _read_rows(manifest: Path) -> tuple[str, list[str]]:
    if not manifest.is_file():
        raise FileNotFoundError(f"manifest {manifest} does not exist")
    with manifest.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        first = file.readline().rstrip("\r\n")
        if not first.strip():
            raise ValueError(f"{manifest}: empty manifest; its first line must be the root folder")
        if "\t" in first:
            raise ValueError(f"{manifest}, line 1: expected the root folder, got a row: {first!r}")
        names = []
        for line, text in enumerate(file, start=2):
            text = text.rstrip("\r\n")
            if not text.strip():
                continue
            name, _, samples = text.partition("\t")
            if not name or not samples.strip().isdigit():
                raise ValueError(f"{manifest}, line {line}: expected 'path<TAB>samples', got {text!r}")
            names.append(name)
    if not names:
        raise ValueError(f"{manifest}: empty manifest; no rows behind the root folder")
    root = os.path.join(manifest.parent, first.strip())  # an absolute root stays as it is
    if not os.path.isdir(root):
        raise FileNotFoundError(f"{manifest}: its root folder {root} does not exist")
    return root, names


def missing_rows(root: str, names: Sequence[str]) -> set[int]:
    """Rows of ``names``, relative to ``root``, without a file.

    Lists each folder once: millions of single questions are slow on network storage.
    """
    listings: dict[str, set[str]] = {}
    missing = set()
    for row, name in enumerate(names):
        folder, file_name = os.path.split(name)
        if folder not in listings:
            path = os.path.join(root, folder)
            listings[folder] = set(os.listdir(path)) if os.path.isdir(path) else set()
        # some file systems do not tell upper from lower case or normalise names, so the listing can only acquit
        if file_name not in listings[folder] and not os.path.isfile(os.path.join(root, name)):
            missing.add(row)
    return missing
