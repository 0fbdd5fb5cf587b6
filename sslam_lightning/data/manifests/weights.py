"""How often to draw each recording, as a table of its own: ``path<TAB>weight`` with a header, a row a recording."""

from __future__ import annotations

from array import array
from dataclasses import replace

import numpy as np

from sslam_lightning.data.filesystem import exists, local_path
from sslam_lightning.data.manifests.recordings import Recordings, class_balanced_weights
from sslam_lightning.data.manifests.tables import Table, open_text, write_table

_HEADER = ["path", "weight"]


def write_weights(path: str, recordings: Recordings) -> None:
    """Write `class_balanced_weights`; reading the table gives the same numbers."""
    weights = class_balanced_weights(recordings).tolist()
    write_table(path, _HEADER, zip(recordings.names, weights, strict=True))


def with_weights(recordings: Recordings, path: str) -> Recordings:
    """The recordings with the weights of a table, whose rows must be the same recordings in the same order.

    Raises:
        FileNotFoundError: no such table.
        ValueError: a malformed row, or other recordings.
    """
    path = local_path(path)
    if not exists(path):
        raise FileNotFoundError(f"sampling weights {path} do not exist")
    weights = array("d")
    with open_text(path) as file:
        rows = Table(file, path, "\t")
        if rows.header != _HEADER:
            raise ValueError(f"{path}: expected the header path<TAB>weight")
        lines = iter(rows)
        for name, (line, row) in zip(recordings.names, lines, strict=False):
            if row[0] != name:
                raise ValueError(
                    f"{path}, line {line}: expected the weight of {name}, got {row}; "
                    "these are weights of other recordings: run sslam data stats again"
                )
            try:
                weights.append(float(row[1]))
            except ValueError:
                raise ValueError(f"{path}, line {line}: {row[1]!r} is no number") from None
        count = len(weights) + sum(1 for _ in lines)
    if count != len(recordings):
        raise ValueError(f"{path} holds {count} weights for {len(recordings)} recordings: run sslam data stats again")
    return replace(recordings, weights=np.array(weights))
