"""A folder per class, as in Speech Commands, UrbanSound8K's copies and most things that people sort by hand."""

from __future__ import annotations

from collections.abc import Sequence

from sslam_lightning.data.descriptors import table_of_words
from sslam_lightning.data.recordings import Recordings, make_recordings


def read_class_folders(root: str, names: Sequence[str]) -> Recordings:
    """Label every file with the first folder on its way.

    Args:
        root: holds the folders.
        names: files in it, ``CLASS/.../file``.

    Raises:
        ValueError: a file in no folder.
    """
    stray = next((name for name in names if "/" not in name), None)
    if stray is not None:
        raise ValueError(f"{root}/{stray} lies in no folder of a class: move it, or use sslam data scan")
    table = table_of_words(name.partition("/")[0] for name in names)
    return make_recordings(root, names, [[table.class_of[name.partition("/")[0]]] for name in names], table.names)
