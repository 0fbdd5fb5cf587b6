"""From recordings to shards: decoded, mixed down and resampled once, instead of in every epoch.

Shard i holds recordings i * n to (i + 1) * n, so shards are made independently of each other, and each appears when it is
complete: a run that was interrupted makes those that are missing, with the same bytes. See
`sslam_lightning.data.shards.read`.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterable
from contextlib import closing
from functools import partial
from math import ceil
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import soundfile

from sslam_lightning.data.audio.read import UnreadableAudio
from sslam_lightning.data.audio.wav import encode_wav
from sslam_lightning.data.loading.dataset import BrokenClip, RecordingDataset
from sslam_lightning.data.manifests.inspection import Rejected
from sslam_lightning.data.manifests.recordings import Recordings
from sslam_lightning.data.manifests.tables import write_table
from sslam_lightning.data.progress_log import Journal
from sslam_lightning.data.shards.read import FORMAT_VERSION, INDEX_NAME, METADATA, ORIGINAL, import_pyarrow
from sslam_lightning.features import LogMels
from sslam_lightning.runtime.atomic_write import new_file
from sslam_lightning.types import ResamplerName

Codec = Literal["lossless", "float32", "int16", "flac16", "flac24", "original"]
_JOURNAL = "pack.journal"  # what the index will say of every finished shard
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

    def clips(self, recordings: Recordings) -> RecordingDataset:
        """The recordings as they will be packed; ValueError for a setting out of its range."""
        if self.codec not in get_args(Codec):
            raise ValueError(f"codec must be one of {', '.join(get_args(Codec))}, got {self.codec!r}")
        if self.clips_per_shard < 1:
            raise ValueError(f"clips_per_shard must be positive, got {self.clips_per_shard}")
        LogMels(sample_rate_hz=self.sample_rate_hz)  # refuses rates that no model takes
        if self.codec == ORIGINAL:
            for name, verb in (("max_clip_seconds", "cuts"), ("sample_rate_hz", "resamples"), ("resampler", "resamples")):
                if (given := getattr(self, name)) != Packing._field_defaults[name]:
                    raise ValueError(f"codec original {verb} nothing: leave {name} out, got {given}")
        return RecordingDataset(recordings, self.sample_rate_hz, self.resampler, self.max_clip_seconds)


class Packed(NamedTuple):
    """What `pack` did: numbers of clips and shards, and what could not be read."""

    num_clips: int
    num_shards: int
    num_kept: int  # shards that an earlier run had made
    rejected: list[Rejected]


def pack(recordings: Recordings, folder: str, packing: Packing, workers: int = 0) -> Packed:
    """Write a folder of shards, or go on with one that was interrupted. All labels of the recordings are kept.

    Recordings that cannot be read are left out and listed in ``rejected.tsv``.

    Raises:
        FileExistsError: the folder is packed already, holds other things, or was begun with other recordings or settings.
        ValueError: a setting out of its range, or nothing could be read.
    """
    clips = packing.clips(recordings)
    import_pyarrow()
    if os.path.exists(os.path.join(folder, INDEX_NAME)):
        raise FileExistsError(f"{folder} is packed already: read it, or name another folder with --out")
    path = os.path.join(folder, _JOURNAL)
    if os.path.isdir(folder) and os.listdir(folder) and not os.path.exists(path):
        raise FileExistsError(f"{folder} is not empty and no interrupted packing: name another folder with --out")
    with closing(Journal(path, {**packing._asdict(), "recordings": recordings.fingerprint()})) as journal:
        make_shard = partial(_pack_shard, clips, folder, packing)
        journal.run(make_shard, len(recordings), workers, "pack", chunk_rows=packing.clips_per_shard)
        rejected = _write_index(recordings, folder, packing, journal)
        journal.remove()
    num_shards = ceil(len(recordings) / packing.clips_per_shard)
    return Packed(len(recordings) - len(rejected), num_shards, journal.num_done, rejected)


def _shard(folder: str, number: int) -> str:
    return os.path.join(folder, f"shard-{number:06d}.tar")


def _pack_shard(clips: RecordingDataset, folder: str, packing: Packing, first: int) -> dict[str, Any]:
    entries: list[dict[str, Any]] = []
    rejected: list[Rejected] = []
    path = _shard(folder, first // packing.clips_per_shard)
    if os.path.exists(path):  # of a run that was killed before it was noted
        os.unlink(path)
    with new_file(path) as tar:
        for row in range(first, min(first + packing.clips_per_shard, len(clips))):
            try:
                sound, extension, about = _encode(clips, packing.codec, row)
            except UnreadableAudio as error:
                rejected.append(Rejected(clips.recordings.names[row], str(error)))
                continue
            offset = tar.tell() + _BLOCK
            tar.write(_member(f"{row:09d}{extension}", sound))
            tar.write(_member(f"{row:09d}.json", json.dumps(about).encode()))
            entries.append({**about, "offset": offset, "size": len(sound)})
        tar.write(bytes(2 * _BLOCK))
        return {"bytes": tar.tell(), "entries": entries, "rejected": rejected}


def _member(name: str, content: bytes) -> bytes:
    """A file in a tar: no time, no owner, so that the same recordings give the same bytes."""
    header = tarfile.TarInfo(name)
    header.size = len(content)
    return header.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % _BLOCK)


def _encode(clips: RecordingDataset, codec: Codec, row: int) -> tuple[bytes, str, dict[str, Any]]:
    recordings = clips.recordings
    labels = [recordings.class_names[index] for index in recordings.classes(row)]
    about: dict[str, Any] = {"id": recordings.names[row], "labels": labels, "origin": recordings.path(row)}
    if codec == ORIGINAL:
        waveform, rate_hz = recordings.read(row)
        sound, extension = recordings.file(row)
    else:
        clip = clips[row]
        if isinstance(clip, BrokenClip):
            raise UnreadableAudio(clip.reason)
        waveform, rate_hz = clip.waveform, clips.sample_rate_hz
        sound, extension = encode(waveform.numpy(), rate_hz, codec), ".flac" if codec.startswith("flac") else ".wav"
    return sound, extension, {**about, "seconds": len(waveform) / rate_hz, "sample_rate_hz": rate_hz}


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


def _write_index(recordings: Recordings, folder: str, packing: Packing, journal: Journal) -> list[Rejected]:
    pyarrow = import_pyarrow()
    word_number = {word: number for number, word in enumerate(recordings.class_names)}
    batches: list[Any] = []
    shard_bytes: list[int] = []
    rejected: list[Rejected] = []
    for number, part in enumerate(journal.results()):
        shard_bytes.append(part["bytes"])
        rejected += [Rejected(*pair) for pair in part["rejected"]]
        batches.append(_part_of_index(number, part["entries"], word_number))
    index = pyarrow.Table.from_batches(batches).combine_chunks()
    if index.num_rows == 0:
        raise ValueError(f"none of the {len(recordings)} recordings could be read; for example {rejected[0].reason}")
    about = {
        "version": FORMAT_VERSION,
        "shards": [os.path.basename(_shard(folder, number)) for number in range(len(shard_bytes))],
        "shard_bytes": shard_bytes,
        "vocabulary": list(recordings.class_names),
        **packing._asdict(),
    }
    index = index.replace_schema_metadata({METADATA: json.dumps(about)})
    listed = os.path.join(folder, "rejected.tsv")
    if rejected and not os.path.exists(listed):
        write_table(listed, Rejected._fields, rejected)
    with new_file(os.path.join(folder, INDEX_NAME)) as file, pyarrow.ipc.new_file(file, index.schema) as writer:
        writer.write_table(index)
    return rejected


def _part_of_index(number: int, entries: list[dict[str, Any]], word_number: dict[str, int]) -> Any:
    pyarrow = import_pyarrow()

    def text(values: Iterable[str]) -> Any:  # names of files may be any bytes, which Arrow would refuse to take for text
        encoded = [value.encode("utf-8", "surrogateescape") for value in values]
        return pyarrow.array(encoded, pyarrow.large_binary()).view(pyarrow.large_string())

    labels = [[word_number[word] for word in entry["labels"]] for entry in entries]
    return pyarrow.RecordBatch.from_pydict(
        {
            "id": text(entry["id"] for entry in entries),
            "shard": pyarrow.array([number] * len(entries), pyarrow.int32()),
            "offset": pyarrow.array([entry["offset"] for entry in entries], pyarrow.int64()),
            "size": pyarrow.array([entry["size"] for entry in entries], pyarrow.int64()),
            "labels": pyarrow.array(labels, pyarrow.large_list(pyarrow.int32())),
            "seconds": pyarrow.array([entry["seconds"] for entry in entries], pyarrow.float64()),
            "origin": text(entry["origin"] for entry in entries),
        }
    )
