"""Recordings that are no good: every file that is left out is listed with its reason, beside what was kept."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sslam_lightning.data.tables import write_table


class Rejected(NamedTuple):
    """A recording that is left out."""

    path: str
    reason: str


def write_rejected(path: str, rejected: Iterable[Rejected]) -> None:
    """Write ``path<TAB>reason`` rows with a header.

    Raises:
        OSError: it exists, or cannot be written.
    """
    write_table(path, Rejected._fields, rejected)
