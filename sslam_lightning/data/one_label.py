"""Clips of exactly one class: what cross entropy needs of a manifest."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from sslam_lightning.data.labels import line_of_labels
from sslam_lightning.data.manifest import line_of_row
from sslam_lightning.data.recordings import Recordings
from sslam_lightning.data.shards import is_shard_folder
from sslam_lightning.data.storage import local_path


def refuse_other_than_one_label(recordings: Recordings, manifest: str, labels: str | Path | None) -> None:
    """Check that every recording is of exactly one class.

    Args:
        recordings: as they were read.
        manifest: from this manifest or folder of shards,
        labels: with this label file; None: where `read_manifest` finds them.

    Raises:
        ValueError: naming file, line and clip of the first that is not.
    """
    others = np.flatnonzero(np.diff(recordings.label_start) != 1)
    if not len(others):
        return
    first = int(others[0])
    name, classes = recordings.names[first], [recordings.class_names[number] for number in recordings.classes(first)]
    raise ValueError(
        f"{_place(name, manifest, labels)}: {name} has {len(classes)} labels ({'; '.join(classes) or 'none'}), but with "
        f"data.multi_label false every clip has exactly one; {len(others)} of {len(recordings)} clips have another number"
    )


def _place(name: str, manifest: str, labels: str | Path | None) -> str:
    """File and line of a clip's labels."""
    path = local_path(manifest)
    if is_shard_folder(path):
        return path
    line = line_of_row(path, name) if labels is None else None
    if line is not None:
        return f"{path}, line {line}"
    file = local_path(labels or os.path.splitext(path)[0] + ".lbl")
    return f"{file}, line {line_of_labels(file, name)}"
