"""Tables for people and programs: a header, then rows, quoted as in CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from sslam_lightning.data.durable import new_file


def write_table(path: str, header: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a ``.csv`` (commas) or ``.tsv`` (tabs) in UTF-8; names of files that are no text keep their bytes.

    Raises:
        OSError: it exists, or cannot be written.
    """
    with new_file(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="")
        writer = csv.writer(text, delimiter="," if path.endswith(".csv") else "\t", lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
        text.flush()
        text.detach()
