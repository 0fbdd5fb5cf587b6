"""Parquet files of Hugging Face's data sets with the audio inside.

``audio`` is a struct of ``bytes`` and ``path``; labels are a column of lists of text, ``human_labels`` or ``labels``; a
clip is called by its ``video_id``, or else by the path in its struct.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from dataclasses import dataclass, field
from glob import escape, glob
from typing import Any

from jaxtyping import Float
from torch import Tensor

from sslam_lightning.data.audio import AUDIO_EXTENSIONS, UnreadableAudio, decode_audio
from sslam_lightning.data.descriptors import table_of_words
from sslam_lightning.data.recordings import Recordings, make_recordings

_LABEL_COLUMNS = ("human_labels", "labels")


@dataclass(frozen=True, eq=False, kw_only=True)
class ParquetRecordings(Recordings):
    """Recordings in parquet files; ``root`` is what was given: a file, or their folder."""

    groups: list[tuple[str, int]]  # every row group: its file, and its number in it
    first_row: list[int]  # of every group
    opened: "_OpenGroup" = field(repr=False)

    def path(self, index: int) -> str:
        """The parquet file, and the recording in it; for messages."""
        return f"{self.groups[self._group(index)][0]}#{self.names[index]}"

    def read(self, index: int, max_seconds: float | None = None) -> tuple[Float[Tensor, "samples"], int]:
        """The mono waveform of a recording and its sample rate in Hz."""
        return decode_audio(self._struct(index)["bytes"], self.path(index), max_seconds)

    def file(self, index: int) -> tuple[bytes, str]:
        """The sound file of a recording as it is."""
        struct = self._struct(index)
        extension = os.path.splitext(struct.get("path") or "")[1].lower()
        if extension not in AUDIO_EXTENSIONS:
            raise UnreadableAudio(f"{self.path(index)}: {extension!r} is no extension of audio")
        return struct["bytes"], extension

    def _group(self, index: int) -> int:
        return bisect_right(self.first_row, index) - 1

    def _struct(self, index: int) -> dict[str, Any]:
        group = self._group(index)
        struct = self.opened(*self.groups[group])[index - self.first_row[group]].as_py()
        if not struct or not struct.get("bytes"):
            raise UnreadableAudio(f"{self.path(index)}: no bytes of audio in it")
        return struct


class _OpenGroup:
    """The row group that was read last: rows are asked for in their order."""

    def __init__(self) -> None:
        self._at: tuple[str, int] | None = None
        self._audio: Any = None

    def __call__(self, path: str, group: int) -> Any:
        if self._at != (path, group):
            self._audio = _import_parquet().ParquetFile(path).read_row_group(group, columns=["audio"]).column("audio")
            self._at = (path, group)
        return self._audio

    def __getstate__(self) -> dict[str, Any]:
        return {"_at": None, "_audio": None}


def read_parquet(path: str, label_column: str | None = None) -> ParquetRecordings:
    """Open parquet files of recordings.

    Args:
        path: one file, or a folder of them.
        label_column: None: the first of human_labels and labels that there is.

    Raises:
        FileNotFoundError: no such file, or none in the folder.
        ValueError: not of this form.
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
    vocabulary = table_of_words(word for row in words for word in row)
    classes = [sorted({vocabulary.class_of[word] for word in row}) for row in words]
    packed = make_recordings(path, names, classes, vocabulary.names)
    return ParquetRecordings(
        *(path, packed.names, packed.label_start, packed.label_index, vocabulary.names),
        groups=groups,
        first_row=first_row,
        opened=_OpenGroup(),
    )


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
    parquet = _import_parquet()
    try:
        return parquet.ParquetFile(path)
    except (ValueError, OSError) as error:  # Arrow's own are of the first kind
        raise ValueError(f"{path} is no parquet file ({str(error).splitlines()[0]})") from error


def _import_parquet() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError("parquet needs pyarrow: pip install 'sslam-lightning[data]'") from error
    return pyarrow.parquet
