"""From recordings to shards: decoded, mixed down and resampled once, instead of in every epoch.

Shard i holds recordings i * n to (i + 1) * n, so shards are made independently of each other, and each appears when it is
whole: a run that was interrupted makes those that are missing, with the same bytes. See `sslam_lightning.data.shards`.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from math import ceil
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import soundfile

from sslam_lightning.data.audio import UnreadableAudio
from sslam_lightning.data.durable import new_file, only_one_run
from sslam_lightning.data.journal import fingerprint
from sslam_lightning.data.parallel import ordered_map, progress
from sslam_lightning.data.recordings import Recordings
from sslam_lightning.data.rejected import Rejected, write_rejected
from sslam_lightning.data.resample import check_resampler, resample
from sslam_lightning.data.shards import FORMAT_VERSION, INDEX_NAME, METADATA, ORIGINAL, import_pyarrow
from sslam_lightning.data.wav import encode_wav
from sslam_lightning.features import LogMels
from sslam_lightning.types import ResamplerName

Codec = Literal["lossless", "float32", "int16", "flac16", "flac24", "original"]
_PARTS = ".parts"  # one JSON file per finished shard, until the index is written
_SETTINGS = "pack.json"
_BLOCK = 512  # of a tar file
_FULL_SCALE = {16: 1 << 15, 24: 1 << 23}


class Packing(NamedTuple):
    """How recordings are packed.

    ``codec``: "lossless" keeps the resampled samples bit for bit, in 16-bit wav where that can hold them and in float32
    wav elsewhere (64 kB a second at 16 kHz); "float32" and "int16" always take the one or the other, "flac16" and
    "flac24" round to so many bits and compress; "original" keeps the files as they are, undecoded.
    """

    codec: Codec = "lossless"
    clips_per_shard: int = 1000
    sample_rate_hz: int = 16000
    resampler: ResamplerName = "torchaudio"
    max_clip_seconds: float | None = None

    def check(self) -> None:
        """Raise ValueError for a setting out of its range."""
        check_resampler(self.resampler)
        if self.codec not in get_args(Codec):
            raise ValueError(f"codec must be one of {', '.join(get_args(Codec))}, got {self.codec!r}")
        if self.clips_per_shard < 1:
            raise ValueError(f"clips_per_shard must be positive, got {self.clips_per_shard}")
        LogMels(sample_rate_hz=self.sample_rate_hz)  # refuses rates that no model takes
        if self.codec == ORIGINAL and self.max_clip_seconds is not None:
            raise ValueError(f"codec original keeps files whole: leave max_clip_seconds out, got {self.max_clip_seconds:g}")
        if self.codec == ORIGINAL and self.sample_rate_hz != Packing().sample_rate_hz:
            raise ValueError(
                f"codec original keeps the rates of files: leave sample_rate_hz out, got {self.sample_rate_hz}"
            )
        if self.codec == ORIGINAL and self.resampler != Packing().resampler:
            raise ValueError(f"codec original resamples nothing: leave resampler out, got {self.resampler}")
        if self.max_clip_seconds is not None and round(self.max_clip_seconds * self.sample_rate_hz) < 1:
            raise ValueError(f"max_clip_seconds must leave at least one sample, got {self.max_clip_seconds}")


class Packed(NamedTuple):
    """What `pack` did: numbers of clips and shards, and what could not be read."""

    num_clips: int
    num_shards: int
    num_kept: int  # shards that an earlier run had made
    rejected: list[Rejected]


class _Work(NamedTuple):
    recordings: Recordings
    folder: str
    packing: Packing


def pack(recordings: Recordings, folder: str, packing: Packing, workers: int = 0) -> Packed:
    """Write a folder of shards, or go on with one that was interrupted.

    Recordings that cannot be read are left out and listed in ``rejected.tsv``.

    Args:
        recordings: with their labels as ``class_names``; all their labels are kept.
        folder: new, or begun with the same recordings and settings.
        packing: codec, size, rate.
        workers: processes.

    Raises:
        FileExistsError: the folder is packed already, holds other things, or was begun with other recordings or settings.
        ValueError: a setting out of its range, or nothing could be read.
        OSError: the disk is full, the folder read-only.
    """
    packing.check()
    import_pyarrow()
    _begin(recordings, folder, packing)
    with only_one_run(os.path.join(folder, _SETTINGS)):
        num_shards = ceil(len(recordings) / packing.clips_per_shard)
        todo = [number for number in range(num_shards) if not os.path.exists(_shard(folder, number))]
        num_kept = num_shards - len(todo)
        done = len(recordings) - sum(len(_rows(number, recordings, packing)) for number in todo)
        with progress(len(recordings), "pack", done=done) as bar:
            for number in ordered_map(_pack_shard, _Work(recordings, folder, packing), todo, workers):
                bar.update(len(_rows(number, recordings, packing)))
        rejected = _write_index(recordings, folder, packing, num_shards)
        return Packed(len(recordings) - len(rejected), num_shards, num_kept, rejected)


def _begin(recordings: Recordings, folder: str, packing: Packing) -> None:
    """The settings lie in the folder before any shard does."""
    if os.path.exists(os.path.join(folder, INDEX_NAME)):
        raise FileExistsError(f"{folder} is packed already: read it, or name another folder with --out")
    labels = [*map(str, recordings.label_start), *map(str, recordings.label_index)]
    digest = fingerprint([recordings.root], recordings.names, recordings.class_names, labels)
    settings = {**packing._asdict(), "recordings": digest}
    path = os.path.join(folder, _SETTINGS)
    if os.path.exists(path):
        begun = json.loads(Path(path).read_text())
        differing = [key for key, value in settings.items() if begun.get(key) != value]
        if differing:
            raise FileExistsError(
                f"{folder} was begun with other settings ({', '.join(differing)}): give the same, or another folder"
            )
    elif os.path.isdir(folder) and os.listdir(folder):
        raise FileExistsError(f"{folder} is not empty and no interrupted packing: name another folder with --out")
    else:
        with new_file(path) as file:
            file.write(json.dumps(settings, indent=1).encode())
    os.makedirs(os.path.join(folder, _PARTS), exist_ok=True)


def _shard(folder: str, number: int) -> str:
    return os.path.join(folder, f"shard-{number:06d}.tar")


def _rows(number: int, recordings: Recordings, packing: Packing) -> range:
    first = number * packing.clips_per_shard
    return range(first, min(first + packing.clips_per_shard, len(recordings)))


def _pack_shard(work: _Work, number: int) -> int:
    """Write one shard and what the index will say of it; the shard gets its name last."""
    part = os.path.join(work.folder, _PARTS, f"{number:06d}.json")
    if os.path.exists(part):  # of a run that was killed between the two
        os.unlink(part)
    entries: list[dict[str, Any]] = []
    rejected: list[Rejected] = []
    with new_file(_shard(work.folder, number)) as tar:
        for row in _rows(number, work.recordings, work.packing):
            try:
                sound, extension, about = _encode(work, row)
            except UnreadableAudio as error:
                rejected.append(Rejected(work.recordings.names[row], str(error)))
                continue
            key = f"{row:09d}"
            offset = tar.tell() + _BLOCK
            tar.write(_member(f"{key}{extension}", sound))
            tar.write(_member(f"{key}.json", json.dumps(about).encode()))
            entries.append({**about, "offset": offset, "size": len(sound)})
        tar.write(bytes(2 * _BLOCK))
        size = tar.tell()
        with new_file(part) as file:
            file.write(json.dumps({"bytes": size, "entries": entries, "rejected": rejected}).encode())
    return number


def _member(name: str, content: bytes) -> bytes:
    """A file in a tar: no time, no owner, so that the same recordings give the same bytes."""
    header = tarfile.TarInfo(name)
    header.size = len(content)
    return header.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % _BLOCK)


def _encode(work: _Work, row: int) -> tuple[bytes, str, dict[str, Any]]:
    recordings, packing = work.recordings, work.packing
    labels = [recordings.class_names[index] for index in recordings.classes(row)]
    about: dict[str, Any] = {"id": recordings.names[row], "labels": labels, "origin": recordings.path(row)}
    waveform, rate_hz = recordings.read(row, packing.max_clip_seconds)
    if packing.codec == ORIGINAL:
        sound, extension = recordings.file(row)
        return sound, extension, {**about, "seconds": len(waveform) / rate_hz, "sample_rate_hz": rate_hz}
    waveform = resample(waveform, rate_hz, packing.sample_rate_hz, packing.resampler)
    if packing.max_clip_seconds is not None:
        waveform = waveform[: round(packing.max_clip_seconds * packing.sample_rate_hz)]
    if len(waveform) == 0:
        raise UnreadableAudio(f"{recordings.path(row)}: too short, nothing is left after resampling")
    about |= {"seconds": len(waveform) / packing.sample_rate_hz, "sample_rate_hz": packing.sample_rate_hz}
    extension = ".flac" if packing.codec.startswith("flac") else ".wav"
    return encode(waveform.numpy(), packing.sample_rate_hz, packing.codec), extension, about


def encode(samples: np.ndarray, sample_rate_hz: int, codec: Codec) -> bytes:
    """A sound file of mono float32 samples; see `Packing`."""
    if codec == "float32":
        return encode_wav(samples, sample_rate_hz)
    if codec in ("lossless", "int16"):
        rounded = _rounded(samples, 16)
        if codec == "lossless" and not np.array_equal(rounded.astype(np.float32) / np.float32(_FULL_SCALE[16]), samples):
            return encode_wav(samples, sample_rate_hz)
        return encode_wav(rounded.astype(np.int16), sample_rate_hz)
    bits = int(codec.removeprefix("flac"))
    file = io.BytesIO()
    whole = _rounded(samples, bits) << (32 - bits)  # libsndfile takes the upper bits
    soundfile.write(file, whole, sample_rate_hz, format="FLAC", subtype=f"PCM_{bits}")
    return file.getvalue()


def _rounded(samples: np.ndarray, bits: int) -> np.ndarray:
    scale = _FULL_SCALE[bits]
    return np.clip(np.rint(samples.astype(np.float64) * scale), -scale, scale - 1).astype(np.int32)


def _write_index(recordings: Recordings, folder: str, packing: Packing, num_shards: int) -> list[Rejected]:
    pyarrow = import_pyarrow()
    word_number = {word: number for number, word in enumerate(recordings.class_names)}
    batches: list[Any] = []
    shard_bytes: list[int] = []
    rejected: list[Rejected] = []
    for number in range(num_shards):
        part = json.loads(Path(folder, _PARTS, f"{number:06d}.json").read_text())
        shard_bytes.append(part["bytes"])
        rejected += [Rejected(*pair) for pair in part["rejected"]]
        batches.append(_part_of_index(number, part["entries"], word_number))
    index = pyarrow.Table.from_batches(batches).combine_chunks()
    if index.num_rows == 0:
        raise ValueError(f"none of the {len(recordings)} recordings could be read; for example {rejected[0].reason}")
    about = {
        "version": FORMAT_VERSION,
        "shards": [os.path.basename(_shard(folder, number)) for number in range(num_shards)],
        "shard_bytes": shard_bytes,
        "vocabulary": list(recordings.class_names),
        **packing._asdict(),
    }
    index = index.replace_schema_metadata({METADATA: json.dumps(about)})
    listed = os.path.join(folder, "rejected.tsv")
    if rejected and not os.path.exists(listed):
        write_rejected(listed, rejected)
    with new_file(os.path.join(folder, INDEX_NAME)) as file, pyarrow.ipc.new_file(file, index.schema) as writer:
        writer.write_table(index)
    shutil.rmtree(os.path.join(folder, _PARTS))
    return rejected


def _part_of_index(number: int, entries: list[dict[str, Any]], word_number: dict[str, int]) -> Any:
    pyarrow = import_pyarrow()

    def column(name: str, kind: Any) -> Any:
        return pyarrow.array([entry[name] for entry in entries], kind)

    def text(name: str) -> Any:  # names of files may be any bytes, which Arrow would refuse to take for text
        encoded = [entry[name].encode("utf-8", "surrogateescape") for entry in entries]
        return pyarrow.array(encoded, pyarrow.large_binary()).view(pyarrow.large_string())

    labels = [[word_number[word] for word in entry["labels"]] for entry in entries]
    return pyarrow.RecordBatch.from_pydict(
        {
            "id": text("id"),
            "shard": pyarrow.array([number] * len(entries), pyarrow.int32()),
            "offset": column("offset", pyarrow.int64()),
            "size": column("size", pyarrow.int64()),
            "labels": pyarrow.array(labels, pyarrow.large_list(pyarrow.int32())),
            "seconds": column("seconds", pyarrow.float64()),
            "origin": text("origin"),
        }
    )
