"""HDF5 files with waveforms (PANNs, Kong et al., 2020) or with mp3 bytes (PaSST, Koutini et al., 2022).

``audio_name``, ``target`` (recordings x classes, or their bits packed into bytes), and ``waveform`` (int16 or float) or
``mp3`` (bytes). The sample rate is the attribute ``sample_rate`` of the file or of the waveforms; it is never guessed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sslam_lightning.data.audio.read import UnreadableAudio, decode_audio
from sslam_lightning.data.manifests.check_layout import expect_file
from sslam_lightning.data.manifests.class_map import ClassTable
from sslam_lightning.data.manifests.recordings import Recordings
from sslam_lightning.whole_numbers import whole_rate


@dataclass(frozen=True, eq=False, kw_only=True)
class HDF5Recordings(Recordings):
    """Recordings in one HDF5 file; ``root`` is that file."""

    rate_hz: int | None  # None: mp3, which tells its own

    def path(self, index: int) -> str:
        return f"{self.root}#{self.names[index]}"

    def read(self, index: int, max_seconds: float | None = None) -> tuple[Float[Tensor, "samples"], int]:
        if self.rate_hz is None:
            return decode_audio(self.file(index)[0], self.path(index), max_seconds)
        waveform = torch.from_numpy(_mono(self._item(index, "waveform")))
        if len(waveform) == 0 or not waveform.isfinite().all():
            raise UnreadableAudio(f"{self.path(index)}: " + ("not finite" if len(waveform) else "holds no samples"))
        return waveform, self.rate_hz

    def file(self, index: int) -> tuple[bytes, str]:
        if self.rate_hz is not None:
            raise ValueError(f"{self.root} holds waveforms and no files: choose another codec than original")
        return np.asarray(self._item(index, "mp3"), dtype=np.uint8).tobytes(), ".mp3"

    def _item(self, index: int, name: str) -> Any:
        try:
            return _opened(self.root, os.stat(self.root).st_mtime_ns, os.getpid())[name][index]
        except OSError as error:
            raise UnreadableAudio(f"{self.path(index)}: cannot be read ({error})") from error


@lru_cache(maxsize=1)
def _opened(path: str, modified: int, process: int) -> Any:
    """The file, opened once in every process, as HDF5's handles do not survive a fork."""
    return _open(path)


def _open(path: str) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise ValueError("HDF5 needs h5py: pip install 'sslam-lightning[data]'") from error
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{path} is no HDF5 file ({str(error).splitlines()[0]})") from error


def read_hdf5(path: str, table: ClassTable | None, sample_rate_hz: int | None = None) -> HDF5Recordings:
    """Open an HDF5 file of recordings; ValueError if it is not of this form.

    ``table`` holds the classes in the order of its targets, ``sample_rate_hz`` is for a file that does not say it.
    """
    expect_file(Path(path))
    with _open(path) as file:
        sound = "waveform" if "waveform" in file else "mp3"
        if "audio_name" not in file or sound not in file:
            raise ValueError(f"{path}: expected audio_name, and waveform or mp3; it holds {', '.join(file) or 'nothing'}")
        names = [
            name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name for name in file["audio_name"][:]
        ]
        rate_hz = _rate_hz(path, file, sound, sample_rate_hz)
        classes = _targets(path, file, len(names), table)
    return HDF5Recordings.of_rows(path, names, classes, () if table is None else table.names, rate_hz=rate_hz)


def _rate_hz(path: str, file: Any, sound: str, sample_rate_hz: int | None) -> int | None:
    told = file.attrs.get("sample_rate", file[sound].attrs.get("sample_rate"))
    if sample_rate_hz is not None and (sound == "mp3" or told not in (None, sample_rate_hz)):
        why = "holds mp3, which tells its own rate" if sound == "mp3" else f"says that its waveforms have {told} Hz"
        raise ValueError(f"{path} {why}: leave sample_rate_hz out, got {sample_rate_hz}")
    if sound == "mp3":
        return None
    rate = sample_rate_hz if told is None else told
    if rate is None:
        raise ValueError(f"{path} does not say the sample rate of its waveforms: give --sample_rate_hz")
    return whole_rate(rate, f"{path}: sample_rate")


def _targets(path: str, file: Any, count: int, table: ClassTable | None) -> list[list[int]]:
    if "target" not in file:
        if table is not None:
            raise ValueError(f"{path} holds no targets: leave classes out")
        return [[]] * count
    width = file["target"].shape[1]
    if table is None:
        raise ValueError(f"{path} holds targets {width} wide: give their --classes (index,mid,name)")
    num_classes = len(table.names)
    packed_bits = file["target"].dtype == np.uint8 and width == -(-num_classes // 8) and width != num_classes
    if not packed_bits and width != num_classes:
        raise ValueError(f"{path}: its targets are {width} wide, the table has {num_classes} classes")
    classes: list[list[int]] = []
    for start in range(0, count, 4096):
        target = file["target"][start : start + 4096]
        target = np.unpackbits(target, axis=-1, count=num_classes) if packed_bits else target
        classes += [np.flatnonzero(row > 0.5).tolist() for row in target]
    return classes


def _mono(samples: np.ndarray) -> np.ndarray:
    scale = -float(np.iinfo(samples.dtype).min) if samples.dtype.kind == "i" else 1.0
    waveform = samples.astype(np.float32) / np.float32(scale)
    if waveform.ndim == 2:  # channels are fewer than samples
        waveform = waveform.mean(axis=int(np.argmin(waveform.shape)))
    return waveform
