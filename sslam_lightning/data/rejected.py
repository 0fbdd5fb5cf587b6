"""The list of recordings that are no good: every file that is left out, with its reason, beside what was kept."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import NamedTuple

from sslam_lightning.data.durable import new_file


class Rejected(NamedTuple):
    """A recording that is left out."""

    path: str
    reason: str


def write_rejected(path: str, rejected: Iterable[Rejected]) -> None:
    """Write ``path<TAB>reason`` rows with a header.

    Raises:
        OSError: it exists, or cannot be written.
    """
    with new_file(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="")
        writer = csv.writer(text, "excel-tab", lineterminator="\n")
        writer.writerow(Rejected._fields)
        writer.writerows(rejected)
        text.flush()
        text.detach()
