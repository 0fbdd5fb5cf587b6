"""Shards: many recordings in a few large files, which network storage reads far faster than millions of small ones.

A folder of shards holds uncompressed tar files (USTAR, ``KEY.wav`` and ``KEY.json`` a recording, so webdataset and ``tar``
read them) and ``index.arrow``: where in which shard the sound of every recording lies, with its name, labels and origin.
A recording is one ranged read away. The index is mapped into memory, so worker processes share it, and nothing is ever
unpacked: names inside the tar files are not looked at.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from sslam_lightning.data.audio.read import UnreadableAudio, decode_audio
from sslam_lightning.data.filesystem import RangeReader, exists, is_url, join, local_path, open_binary
from sslam_lightning.data.manifests.class_map import ClassTable, table_of_words
from sslam_lightning.data.manifests.recordings import Recordings
from sslam_lightning.data.shards.packed import PackedClasses, PackedStrings

INDEX_NAME = "index.arrow"
FORMAT_VERSION = 1
METADATA = b"sslam"
ORIGINAL = "original"  # the codec of files that were packed as they are


@dataclass(frozen=True, eq=False, kw_only=True)
class PackedRecordings(Recordings):
    """Recordings in shards; ``root`` is their folder."""

    shards: tuple[str, ...]  # file names
    shard_of: Int[np.ndarray, "recordings"]
    offset: Int[np.ndarray, "recordings"]
    size: Int[np.ndarray, "recordings"]
    about: dict[str, Any]  # how they were packed: codec, sample_rate_hz, resampler, max_clip_seconds ...
    reader: RangeReader = field(default_factory=RangeReader, repr=False)

    def path(self, index: int) -> str:
        return f"{join(self.root, self.shards[self.shard_of[index]])}#{self.names[index]}"

    def file(self, index: int) -> tuple[bytes, str]:
        raise ValueError(f"{self.root} holds shards already: pack the files that they were made of")

    def packed_file(self, index: int) -> bytes:
        """The packed file of a recording, in one read; UnreadableAudio where the shard is not there, or ends too early."""
        shard = join(self.root, self.shards[self.shard_of[index]])
        try:
            return self.reader(shard, int(self.offset[index]), int(self.size[index]))
        except OSError as error:
            raise UnreadableAudio(f"{self.path(index)}: cannot be read ({error})") from error

    def read(self, index: int, max_seconds: float | None = None) -> tuple[Float[Tensor, "samples"], int]:
        return decode_audio(self.packed_file(index), self.path(index), max_seconds)


def is_shard_folder(path: str) -> bool:
    """Whether this names a folder of shards and not a manifest."""
    path = local_path(path)
    return exists(join(path, INDEX_NAME)) if is_url(path) else os.path.isdir(path)


def read_shards(folder: str, table: ClassTable | None = None) -> PackedRecordings:
    """Open a folder of shards, by path or URL; without a table of classes, recordings without labels.

    FileNotFoundError without an index in the folder; ValueError for one that is not ours or points outside its shards, and
    for a label that is not in the table.
    """
    folder = local_path(folder)
    columns, about = read_index(folder)
    shards, shard_bytes = tuple(about["shards"]), np.array(about["shard_bytes"], dtype=np.int64)
    shard_of, offset, size = (columns[name].to_numpy(zero_copy_only=True) for name in ("shard", "offset", "size"))
    _check_places(folder, shards, shard_bytes, shard_of, offset, size)
    ids = PackedStrings.of_buffers(*_string_buffers(columns["id"]))
    names: tuple[str, ...] = ()
    rows = PackedClasses(np.zeros(len(ids) + 1, dtype=np.int64), np.zeros(0, dtype=np.int32))
    if table is not None:
        rows, names = _classes(folder, columns["labels"], about["vocabulary"], table), table.names
    places = {"shards": shards, "shard_of": shard_of, "offset": offset, "size": size}
    return PackedRecordings(folder, ids, rows.start, rows.flat, names, **places, about=about)


def read_labeled_shards(folder: str) -> PackedRecordings:
    """Open a folder of shards with all its labels, whatever they are; see `read_labeled`."""
    return read_shards(folder, table_of_words(read_index(local_path(folder))[1]["vocabulary"]))


def read_index(folder: str) -> tuple[Any, dict[str, Any]]:
    """The columns of an index (a record batch) and what it says about its shards."""
    path = join(folder, INDEX_NAME)
    if not exists(path):
        raise FileNotFoundError(
            f"{folder} holds no {INDEX_NAME}: of a folder of recordings `sslam data scan {folder}` writes a manifest; "
            "where the packing of shards was interrupted, the same sslam data pack command continues it"
        )
    pyarrow = import_pyarrow()
    try:
        if is_url(path):
            with open_binary(path) as file:
                source = pyarrow.BufferReader(file.read())
        else:
            source = pyarrow.memory_map(path)
        with pyarrow.ipc.open_file(source) as index:
            metadata = index.schema.metadata or {}
            about = json.loads(metadata.get(METADATA, b"null"))
            if not about or about.get("version") != FORMAT_VERSION or index.num_record_batches != 1:
                raise ValueError(f"{path} is no index of version {FORMAT_VERSION}: pack again, or update this package")
            return index.get_batch(0), about
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{path} is no Arrow file ({str(error).splitlines()[0]})") from error


def import_pyarrow() -> ModuleType:
    """pyarrow, with its IPC part; ValueError if it is not installed."""
    try:
        import pyarrow.ipc
    except ImportError as error:
        raise ValueError("shards and parquet need pyarrow: pip install 'sslam-lightning[data]'") from error
    return pyarrow


def _check_places(folder: str, shards: tuple[str, ...], shard_bytes: Any, shard_of: Any, offset: Any, size: Any) -> None:
    """An index from elsewhere may say anything; it must not lead out of its folder, nor out of a shard."""
    for name in shards:
        if name != os.path.basename(name) or name in ("", ".", ".."):
            raise ValueError(f"{folder}: its index names {name!r}, which is not a file of this folder")
    if len(shard_bytes) != len(shards) or (len(shard_of) and not 0 <= shard_of.min() <= shard_of.max() < len(shards)):
        raise ValueError(f"{folder}: its index names shards that it does not list")
    outside = (offset < 0) | (size < 0) | (offset > shard_bytes[shard_of] - size)
    if outside.any():
        row = int(outside.argmax())
        raise ValueError(
            f"{folder}: its index places recording {row} at bytes {offset[row]} to {offset[row] + size[row]} of "
            f"{shards[shard_of[row]]}, which has {shard_bytes[shard_of[row]]}"
        )


def _string_buffers(column: Any) -> tuple[Int[np.ndarray, "bytes"], Int[np.ndarray, "strings_and_one"]]:
    _, ends, data = column.buffers()
    first = column.offset
    return (
        np.frombuffer(data, dtype=np.uint8) if data is not None and data.size else np.zeros(0, dtype=np.uint8),
        np.frombuffer(ends, dtype=np.int64)[first : first + len(column) + 1],
    )


def _classes(folder: str, column: Any, vocabulary: list[str], table: ClassTable) -> PackedClasses:
    unknown = [word for word in vocabulary if word not in table.class_of]
    if unknown:
        raise ValueError(f"{folder}: label {unknown[0]!r} is not among the label descriptors")
    class_of_word = np.array([table.class_of[word] for word in vocabulary], dtype=np.int32)
    start = column.offsets.to_numpy(zero_copy_only=True)
    classes = class_of_word[column.values.to_numpy(zero_copy_only=True)[start[0] : start[-1]]]
    return PackedClasses.of_pairs(np.repeat(np.arange(len(column)), np.diff(start)), classes, len(column))
