"""Finished embeddings as one file: NumPy's .npz, Parquet or HDF5, written block by block.

What a file holds, under the same names everywhere (Parquet has a row per embedding and so repeats the recording's columns):

- ``file`` and, where there is time, ``seconds``, one per recording that could be read, in the order in which they were
  asked for;
- ``embedding`` (float32): at level clip one row per recording, else one per frame of all recordings, with ``num_frames``
  per recording, and per frame ``file_index`` (which recording) and, where there is time, ``time_seconds`` (the middle of
  the frame). Behind the first axis come mel (level patch), layer (layer "all") and the width. Of images rows of patches
  stand for frames and columns for mel, of texts tokens for frames.
"""

from __future__ import annotations

import itertools
import json
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from sslam_lightning.inference.sources import legible
from sslam_lightning.runtime.atomic_write import refuse_existing, replacing

_BLOCK_BYTES = 16 << 20


class MissingLibrary(RuntimeError):
    """A library that writes a format is not installed."""

    for_users = True  # the message says it all


class Embeddings(NamedTuple):
    """All rows of a finished run, in order."""

    level: str  # clip, frame or patch
    files: list[str]  # of the recordings that could be read
    seconds: np.ndarray  # of each recording
    num_rows: np.ndarray  # of each recording
    row_shape: Sequence[int]
    path: Path  # of the rows of all recordings, float32
    first_and_step: tuple[float, float] | None  # seconds to the middle of a recording's first frame, and to the next
    settings: Mapping[str, Any]  # what the file says about its making

    def per_file(self) -> dict[str, np.ndarray]:
        """The columns with one value per recording, but for its name."""
        columns = {} if self.first_and_step is None else {"seconds": self.seconds}
        return columns if self.level == "clip" else {**columns, "num_frames": self.num_rows}

    @property
    def shape(self) -> tuple[int, ...]:
        return int(self.num_rows.sum()), *self.row_shape

    def blocks(self) -> Iterator[dict[str, np.ndarray]]:
        """The columns with one value per row, a few rows at a time."""
        stops, row_values = np.cumsum(self.num_rows), math.prod(self.row_shape)
        size = max(1, _BLOCK_BYTES // (4 * row_values))
        for start in range(0, self.shape[0], size):
            values = np.fromfile(self.path, "<f4", size * row_values, offset=4 * start * row_values)
            embedding = values.reshape(-1, *self.row_shape)
            row = np.arange(start, start + len(embedding))
            file_index = np.searchsorted(stops, row, side="right")
            block = {"embedding": embedding, "file_index": file_index}
            if self.level != "clip" and self.first_and_step is not None:
                first, step = self.first_and_step
                block["time_seconds"] = first + (row - (stops - self.num_rows)[file_index]) * step
            yield block

    def per_row(self) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        """Shape and type of the columns with one value per row."""
        block = next(self.blocks())
        names = ["embedding"] if self.level == "clip" else list(block)
        return {name: ((self.shape[0], *block[name].shape[1:]), block[name].dtype) for name in names}


def write_table(embeddings: Embeddings, target: Path) -> None:
    """Write the file under another name, and rename it when it is complete.

    Raises:
        FileExistsError: the target exists by then.
    """
    writer, _ = _FORMATS[target.suffix]
    with replacing(target) as file:
        writer(embeddings, file)
        refuse_existing(str(target))


def check_format(target: Path) -> None:
    """Refuse what cannot be written, before anything is computed.

    Raises:
        ValueError: another ending than .npz, .parquet and .h5.
        MissingLibrary: what writes that format is not installed.
    """
    if target.suffix not in _FORMATS:
        raise ValueError(f"the file to write must end in {', '.join(_FORMATS)}, got {target}")
    _, library = _FORMATS[target.suffix]
    try:
        __import__(library)
    except ImportError as error:
        raise MissingLibrary(
            f"{target.suffix} needs {library}: pip install 'sslam-lightning[embed]', or write .npz ({error})"
        ) from None


def _write_npz(embeddings: Embeddings, file: IO[bytes]) -> None:
    """An .npz is a zip of .npy files: a header with shape and type, then the values, which need not be in memory."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        columns = {"file": np.array(embeddings.files), "settings": np.array(json.dumps(embeddings.settings))}
        for name, values in {**columns, **embeddings.per_file()}.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.save(member, values)
        for name, (shape, dtype) in embeddings.per_row().items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_2_0(member, header)
                for block in embeddings.blocks():
                    member.write(block[name].data.cast("B"))


def _write_h5(embeddings: Embeddings, file: IO[bytes]) -> None:
    import h5py

    with h5py.File(file, "w") as archive:
        archive.attrs["settings"] = json.dumps(embeddings.settings)
        archive.create_dataset("file", data=[legible(name) for name in embeddings.files], dtype=h5py.string_dtype())
        for name, values in embeddings.per_file().items():
            archive[name] = values
        for name, (shape, dtype) in embeddings.per_row().items():
            values, start = archive.create_dataset(name, shape, dtype), 0
            for block in embeddings.blocks():
                values[start : start + len(block[name])] = block[name]
                start += len(block[name])


def _write_parquet(embeddings: Embeddings, file: IO[bytes]) -> None:
    import pyarrow.parquet as pq

    blocks = (_parquet_table(embeddings, block) for block in embeddings.blocks())
    first = next(blocks)
    with pq.ParquetWriter(file, first.schema) as writer:
        for table in itertools.chain([first], blocks):
            writer.write_table(table)


def _parquet_table(embeddings: Embeddings, block: dict[str, np.ndarray]) -> Any:
    import pyarrow as pa

    *extents, dim = embeddings.row_shape
    axes = (["mel"] if embeddings.level == "patch" else []) + ["layer"]
    places = np.indices(extents).reshape(len(extents), -1) if extents else ()
    num_rows, per_row = len(block["embedding"]), math.prod(extents)
    index = np.repeat(block["file_index"], per_row)
    columns = {"file": pa.array([legible(embeddings.files[number]) for number in index]).dictionary_encode()}
    if embeddings.first_and_step is not None:
        columns["seconds"] = embeddings.seconds[index]
    if "time_seconds" in block:
        columns["time_seconds"] = np.repeat(block["time_seconds"], per_row)
    for name, numbers in zip(axes, places, strict=False):
        columns[name] = np.tile(numbers + (name == "layer"), num_rows).astype(np.int32)
    columns["embedding"] = pa.FixedSizeListArray.from_arrays(block["embedding"].reshape(-1), dim)
    return pa.table(columns).replace_schema_metadata({"sslam_settings": json.dumps(embeddings.settings)})


_FORMATS: dict[str, tuple[Callable[[Embeddings, IO[bytes]], None], str]] = {
    ".npz": (_write_npz, "numpy"),
    ".parquet": (_write_parquet, "pyarrow"),
    ".h5": (_write_h5, "h5py"),
}
