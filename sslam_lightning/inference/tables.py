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

import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from sslam_lightning.data.durable import refuse_existing
from sslam_lightning.inference.parts import Parts
from sslam_lightning.inference.sources import legible
from sslam_lightning.whole_file import replacing


class MissingLibrary(RuntimeError):
    """A library that writes a format is not installed."""

    for_users = True  # the message says it all


class Block(NamedTuple):
    """Some rows: which recording (counted among those that could be read), which of its rows, and the embeddings."""

    file_index: np.ndarray
    row: np.ndarray
    embedding: np.ndarray


class Embeddings:
    """All rows of a finished run, in order.

    Args:
        parts: where they are.
        names: of all recordings that were asked for.
        level: clip, frame or patch.
        times_seconds: the middles of a recording's frames, from one to another; None where there is no time.
        settings: what the file says about its making.
    """

    def __init__(
        self,
        parts: Parts,
        names: list[str],
        level: str,
        times_seconds: Callable[[int, int], Any] | None,
        settings: Mapping[str, Any],
    ) -> None:
        self.level, self.settings = level, settings
        self._parts, self._times = parts, times_seconds
        self.has_time = times_seconds is not None
        rows, seconds = np.zeros(len(names), np.int64), np.full(len(names), -1.0)
        for kept, embedding in parts.blocks():
            self.row_shape = embedding.shape[1:]
            for stretch in kept:
                rows[stretch.source] += stretch.num_rows
                seconds[stretch.source] = max(seconds[stretch.source], stretch.seconds)
        (sources,) = np.nonzero(seconds >= 0)
        self.names = [names[source] for source in sources]
        self.seconds, self.num_rows = seconds[sources], rows[sources]
        self._place = np.cumsum(seconds >= 0) - 1

    def blocks(self) -> Iterator[Block]:
        """Everything, a part at a time."""
        for kept, embedding in self._parts.blocks():
            counts = [stretch.num_rows for stretch in kept]
            files = np.repeat([self._place[stretch.source] for stretch in kept], counts)
            row = np.concatenate([np.arange(s.first_row, s.first_row + s.num_rows) for s in kept])
            yield Block(files, row, embedding)

    def time_of(self, row: np.ndarray) -> np.ndarray:
        """Middle of a recording's frame by its number."""
        assert self._times is not None, "there is no time"
        start, step = (float(self._times(0, 2)[0]), float(self._times(0, 2)[1] - self._times(0, 2)[0]))
        return start + row * step


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
    """An .npz is a zip of .npy files: a header that tells shape and type, then the values, which need not be in memory."""
    total = int(embeddings.num_rows.sum())
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:

        def write(name: str, shape: tuple[int, ...], dtype: Any, values: Iterator[np.ndarray]) -> None:
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_2_0(member, header)
                for part in values:
                    member.write(np.ascontiguousarray(part, dtype).data.cast("B"))

        write("embedding", (total, *embeddings.row_shape), "<f4", (b.embedding for b in embeddings.blocks()))
        if embeddings.level != "clip":
            if embeddings.has_time:
                write("time_seconds", (total,), "<f8", (embeddings.time_of(block.row) for block in embeddings.blocks()))
            write("file_index", (total,), "<i8", (block.file_index for block in embeddings.blocks()))
            np.save(archive.open("num_frames.npy", "w"), embeddings.num_rows)
        columns = [("file", np.array(embeddings.names))]
        columns += [("seconds", embeddings.seconds)] if embeddings.has_time else []
        for name, values in columns:
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.save(member, values)
        with archive.open("settings.npy", "w") as member:
            np.save(member, np.array(json.dumps(embeddings.settings)))


def _write_h5(embeddings: Embeddings, file: IO[bytes]) -> None:
    import h5py

    total = int(embeddings.num_rows.sum())
    with h5py.File(file, "w") as archive:
        archive.attrs["settings"] = json.dumps(embeddings.settings)
        archive.create_dataset("file", data=[legible(name) for name in embeddings.names], dtype=h5py.string_dtype())
        if embeddings.has_time:
            archive["seconds"] = embeddings.seconds
        rows = archive.create_dataset("embedding", (total, *embeddings.row_shape), "f4")
        if embeddings.level != "clip":
            archive["num_frames"] = embeddings.num_rows
            if embeddings.has_time:
                times = archive.create_dataset("time_seconds", (total,), "f8")
            files = archive.create_dataset("file_index", (total,), "i8")
        start = 0
        for block in embeddings.blocks():
            stop = start + len(block.row)
            rows[start:stop] = block.embedding
            if embeddings.level != "clip":
                if embeddings.has_time:
                    times[start:stop] = embeddings.time_of(block.row)
                files[start:stop] = block.file_index
            start = stop


def _write_parquet(embeddings: Embeddings, file: IO[bytes]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    *axes, dim = embeddings.row_shape
    names = {"patch": ["mel"], "frame": [], "clip": []}[embeddings.level]
    names = [*names, "layer"][: len(axes)] if len(axes) > len(names) else names
    extents = dict(zip(names, axes, strict=True))
    columns = [("file", pa.dictionary(pa.int32(), pa.string()))]
    columns += [("seconds", pa.float64())] if embeddings.has_time else []
    columns += [("time_seconds", pa.float64())] if embeddings.has_time and embeddings.level != "clip" else []
    columns += [(name, pa.int32()) for name in extents]
    schema = pa.schema([*columns, ("embedding", pa.list_(pa.float32(), dim))])
    schema = schema.with_metadata({"sslam_settings": json.dumps(embeddings.settings)})
    with pq.ParquetWriter(file, schema) as writer:
        for block in embeddings.blocks():
            values = block.embedding.reshape(len(block.row), -1, dim)
            repeats = values.shape[1]
            index = np.repeat(block.file_index, repeats)
            used, place = np.unique(index, return_inverse=True)  # of all names those of this block: it is written with them
            names = pa.array([legible(embeddings.names[file]) for file in used], pa.string())
            told = {"file": pa.DictionaryArray.from_arrays(place.astype(np.int32), names)}
            if embeddings.has_time:
                told["seconds"] = embeddings.seconds[index]
            if embeddings.has_time and embeddings.level != "clip":
                told["time_seconds"] = np.repeat(embeddings.time_of(block.row), repeats)
            grid = np.indices(tuple(extents.values())).reshape(len(extents), -1) if extents else ()
            for name, numbers in zip(extents, grid, strict=True):
                told[name] = np.tile(numbers + (name == "layer"), len(block.row)).astype(np.int32)
            told["embedding"] = pa.FixedSizeListArray.from_arrays(values.reshape(-1), dim)
            writer.write_table(pa.table(told, schema))


_FORMATS: dict[str, tuple[Callable[[Embeddings, IO[bytes]], None], str]] = {
    ".npz": (_write_npz, "numpy"),
    ".parquet": (_write_parquet, "pyarrow"),
    ".h5": (_write_h5, "h5py"),
}
