"""Parquet files of Hugging Face's data sets with the audio inside.

``audio`` is a struct of ``bytes`` and ``path``; labels are a column of lists of text, ``human_labels`` or ``labels``; a
clip is called by its ``video_id``, or else by the path in its struct.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from glob import escape, glob
from typing import Any

from jaxtyping import Float
from torch import Tensor

from sslam_lightning.data.audio.read import UnreadableAudio, decode_audio
from sslam_lightning.data.manifests.recordings import Recordings, audio_extension
from sslam_lightning.data.shards.read import import_pyarrow

_LABEL_COLUMNS = ("human_labels", "labels")


@dataclass(frozen=True, eq=False, kw_only=True)
class ParquetRecordings(Recordings):
    """Recordings in parquet files; ``root`` is what was given: a file, or their folder."""

    groups: list[tuple[str, int]]  # every row group: its file, and its number in it
    first_row: list[int]  # of every group

    def path(self, index: int) -> str:
        return f"{self.groups[self._group(index)][0]}#{self.names[index]}"

    def read(self, index: int, max_seconds: float | None = None) -> tuple[Float[Tensor, "samples"], int]:
        return decode_audio(self._struct(index)["bytes"], self.path(index), max_seconds)

    def file(self, index: int) -> tuple[bytes, str]:
        struct = self._struct(index)
        return struct["bytes"], audio_extension(struct.get("path") or "", self.path(index))

    def _group(self, index: int) -> int:
        return bisect_right(self.first_row, index) - 1

    def _struct(self, index: int) -> dict[str, Any]:
        group = self._group(index)
        file, number = self.groups[group]
        struct = _read_audio(file, number, os.stat(file).st_mtime_ns)[index - self.first_row[group]].as_py()
        if not struct or not struct.get("bytes"):
            raise UnreadableAudio(f"{self.path(index)}: no bytes of audio in it")
        return struct


@lru_cache(maxsize=1)
def _read_audio(path: str, group: int, modified: int) -> Any:
    """The row group that was read last: rows are asked for in their order."""
    return _open(path).read_row_group(group, columns=["audio"]).column("audio")


def read_parquet(path: str, label_column: str | None = None) -> ParquetRecordings:
    """Open a parquet file of recordings, or a folder of them; ValueError if they are not of this form.

    ``label_column`` is by default the first of human_labels and labels that there is.
    """
    files = sorted(glob(os.path.join(escape(path), "**", "*.parquet"), recursive=True)) if os.path.isdir(path) else [path]
    if not files or not os.path.exists(files[0]):
        raise FileNotFoundError(f"{path}: no such parquet file, or no *.parquet in this folder")
    names: list[str] = []
    words: list[list[str]] = []
    groups: list[tuple[str, int]] = []
    first_row: list[int] = []
    for file in files:
        table = _open(file)
        columns = table.schema_arrow.names
        labels = label_column or next((column for column in _LABEL_COLUMNS if column in columns), None)
        if "audio" not in columns or (labels is not None and labels not in columns):
            raise ValueError(f"{file}: expected the columns audio and {labels or 'labels'}, got {', '.join(columns)}")
        for group in range(table.num_row_groups):
            first_row.append(len(names))
            groups.append((file, group))
            names += _names(table, group, columns, len(names))
            words += _words(file, table, group, labels)
    return ParquetRecordings.of_words(path, names, words, groups=groups, first_row=first_row)


def _names(table: Any, group: int, columns: list[str], first: int) -> list[str]:
    if "video_id" in columns:
        return [str(name) for name in table.read_row_group(group, columns=["video_id"]).column(0).to_pylist()]
    paths = table.read_row_group(group, columns=["audio.path"]).column(0).to_pylist()
    return [(struct or {}).get("path") or f"row {first + row}" for row, struct in enumerate(paths)]


def _words(file: str, table: Any, group: int, column: str | None) -> list[list[str]]:
    if column is None:
        return [[]] * table.metadata.row_group(group).num_rows
    rows = table.read_row_group(group, columns=[column]).column(0).to_pylist()
    rows = [[row] if isinstance(row, str) else row or [] for row in rows]
    strange = next((row for row in rows if not all(isinstance(word, str) for word in row)), None)
    if strange is not None:
        raise ValueError(f"{file}: {column} must hold lists of text, got {strange}; name another with --label_column")
    return rows


def _open(path: str) -> Any:
    import_pyarrow()
    from pyarrow import parquet

    try:
        return parquet.ParquetFile(path)
    except (ValueError, OSError) as error:  # Arrow's own are of the first kind
        raise ValueError(f"{path} is no parquet file ({str(error).splitlines()[0]})") from error
