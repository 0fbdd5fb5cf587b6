"""A folder per class, as in Speech Commands, UrbanSound8K's copies and most things that people sort by hand."""

from __future__ import annotations

from collections.abc import Sequence

from sslam_lightning.data.manifests.recordings import Recordings


def read_class_folders(root: str, names: Sequence[str]) -> Recordings:
    """Label every file ``CLASS/.../file`` with the first folder on its way; ValueError for a file in no folder."""
    stray = next((name for name in names if "/" not in name), None)
    if stray is not None:
        raise ValueError(f"{root}/{stray} lies in no folder of a class: move it, or use sslam data scan")
    return Recordings.of_words(root, names, [[name.partition("/")[0]] for name in names])
