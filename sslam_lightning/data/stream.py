"""Recordings of any length, decoded and resampled by blocks, so that memory does not grow with them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import soundfile
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from sslam_lightning.data.audio import (
    MissingResampler,
    ResamplerName,
    UnreadableAudio,
    check_resampler,
    check_whole,
    checked_rate,
)
from sslam_lightning.data.storage import for_libsndfile

_BLOCK_SECONDS = 20.0
# What libsndfile does not know, and FFmpeg (through torchcodec) does.
CONTAINERS = frozenset((".m4a", ".mp4", ".aac", ".webm", ".mkv", ".mov", ".wma", ".3gp", ".mka"))
_WIDTH = 6  # zero crossings of the sinc on each side, and
_ROLLOFF = 0.99  # its cutoff in units of the lower Nyquist frequency: torchaudio's defaults
_MAX_DENSE_KERNEL = 1 << 22  # elements; rates without a large common divisor would need gigabytes


class Resampler(Protocol):
    """Turns blocks of one recording, or of several of the same length, into blocks at another rate."""

    def push(self, block: Float[Tensor, "rows samples"]) -> Float[Tensor, "rows resampled"]:
        """What can be computed so far."""

    def finish(self) -> Float[Tensor, "rows resampled"]:
        """The rest, after the last block."""


def stream_audio(
    path: str | Path, to_hz: int, resampler: ResamplerName = "torchaudio", block_seconds: float = _BLOCK_SECONDS
) -> Iterator[Float[Tensor, "samples"]]:
    """Decode a file by blocks, average its channels, and resample without a trace of the blocks.

    Joined together the blocks are what :func:`~sslam_lightning.data.audio.read_audio` and
    :func:`~sslam_lightning.data.audio.resample` make of the whole file, up to rounding.

    Args:
        path: wav, flac, ogg, mp3 and what else libsndfile knows; m4a and other containers where torchcodec is installed.
        to_hz: rate of what comes out.
        resampler: see :func:`~sslam_lightning.data.audio.resample`.
        block_seconds: how much is decoded at a time.

    Raises:
        UnreadableAudio: as ``read_audio``, also in the middle of a file.
    """
    empty = True
    converter: Resampler | None = None
    for channels, from_hz in _decode(Path(path), block_seconds):
        waveform = torch.from_numpy(channels[:, 0] if channels.shape[1] == 1 else channels.mean(axis=1)).contiguous()
        if not waveform.isfinite().all():
            raise UnreadableAudio(f"{path}: holds samples that are NaN or infinite")
        empty = False
        converter = converter or streaming_resampler(from_hz, to_hz, resampler)
        yield converter.push(waveform[None])[0]
    if empty or converter is None:
        raise UnreadableAudio(f"{path}: holds no samples")
    yield converter.finish()[0]


def resample_rows(
    waveforms: Float[Tensor, "rows samples"], from_hz: int, to_hz: int, resampler: ResamplerName = "torchaudio"
) -> Float[Tensor, "rows resampled"]:
    """Resample waveforms that are in memory, on their device ("soxr": on the CPU)."""
    converter = streaming_resampler(from_hz, to_hz, resampler)
    return torch.cat([converter.push(waveforms), converter.finish()], dim=1)


def streaming_resampler(from_hz: int, to_hz: int, method: ResamplerName = "torchaudio") -> Resampler:
    """A new resampler for one stream.

    Raises:
        ValueError: unknown method, or a rate that is not positive.
        MissingResampler: "soxr" is not installed.
    """
    check_resampler(method)
    if from_hz <= 0 or to_hz <= 0:
        raise ValueError(f"sample rates must be positive, got {from_hz} Hz and {to_hz} Hz")
    if from_hz == to_hz:
        return _SameRate()
    return _SincResampler(from_hz, to_hz) if method == "torchaudio" else _SoxrResampler(from_hz, to_hz)


class _SameRate:
    def __init__(self) -> None:
        self._rows = torch.zeros(1, 0)

    def push(self, block: Tensor) -> Tensor:
        self._rows = block[:, :0]
        return block

    def finish(self) -> Tensor:
        return self._rows


class _SincResampler:
    """Hann-windowed sinc (torchaudio's default), one group of outputs after the other.

    With both rates divided by their common divisor, ``down`` input samples become ``up`` outputs, always by the same
    ``up`` filters; a group needs ``width`` samples before it and behind it.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        divisor = math.gcd(from_hz, to_hz)
        self.down, self.up = from_hz // divisor, to_hz // divisor
        self.width = math.ceil(_WIDTH * self.down / (min(self.down, self.up) * _ROLLOFF))
        self._held: Tensor | None = None  # input from `width` samples before the next group on
        self._num_in = self._num_out = 0

    def push(self, block: Tensor) -> Tensor:
        if self._held is None:
            self._held = block.new_zeros(block.shape[0], self.width)
        self._num_in += block.shape[1]
        self._held = torch.cat([self._held, block], dim=1)
        return self._groups(self._held.shape[1] - 2 * self.width)

    def finish(self) -> Tensor:
        assert self._held is not None
        self._held = F.pad(self._held, (0, self.width + self.down))
        left = -(-self.up * self._num_in // self.down) - self._num_out
        return self._groups(self._held.shape[1] - 2 * self.width)[:, :left]

    def _groups(self, num_samples: int) -> Tensor:
        """Outputs of all groups that are complete within so many samples."""
        assert self._held is not None
        groups = max(0, num_samples // self.down)
        if not groups:
            return self._held[:, :0]
        rows = self._held[:, : groups * self.down + 2 * self.width]
        if self.up * (self.down + 2 * self.width) <= _MAX_DENSE_KERNEL:
            kernel = _dense_kernel(self.down, self.up, self.width).to(rows)
            out = F.conv1d(rows[:, None], kernel, stride=self.down).transpose(1, 2).flatten(1)
        else:
            first, filters = _banded_kernel(self.down, self.up, self.width)
            first, filters = first.to(rows.device), filters.to(rows)
            near = first[:, None] + torch.arange(filters.shape[1], device=rows.device)
            out = torch.cat([(rows[:, group * self.down + near] * filters).sum(-1) for group in range(groups)], dim=1)
        self._held = self._held[:, groups * self.down :]
        self._num_out += out.shape[1]
        return out


def _filters(distance: Tensor, down: int, up: int) -> Tensor:
    """The windowed sinc at distances from the output's own place, in units of a group's ``down`` samples."""
    cutoff = min(down, up) * _ROLLOFF
    t = (distance * cutoff).clamp(-_WIDTH, _WIDTH)
    window = (t * math.pi / _WIDTH / 2).cos().square()
    return (torch.sinc(t) * window * (cutoff / down)).float()


@lru_cache(maxsize=32)
def _dense_kernel(down: int, up: int, width: int) -> Float[Tensor, "up 1 taps"]:
    """All filters over everything that their group sees, most of it zero: one convolution, and the fastest form.

    In float32 and in torchaudio's order, whose rounding (1e-4 of the signal at 11025 Hz) is part of what models heard.
    """
    place = torch.arange(0, -up, -1, dtype=torch.float32)[:, None] / up
    return _filters(place + torch.arange(-width, width + down, dtype=torch.float32) / down, down, up)[:, None]


@lru_cache(maxsize=4)
def _banded_kernel(down: int, up: int, width: int) -> tuple[Tensor, Float[Tensor, "up taps"]]:
    """For every filter the first sample that it needs, counted from the held ones, and its values."""
    place = torch.arange(up, dtype=torch.float64) * down / up
    first = place.floor().long() - width + 1
    samples = first[:, None] + torch.arange(2 * width)
    return first + width, _filters((samples - place[:, None]) / down, down, up)


class _SoxrResampler:
    def __init__(self, from_hz: int, to_hz: int) -> None:
        try:
            import soxr
        except (ImportError, OSError) as error:
            raise MissingResampler(
                f"soxr cannot be imported ({error}), but the model's data was resampled with it: "
                "pip install sslam-lightning[soxr]"
            ) from error
        self._open = lambda rows: soxr.ResampleStream(from_hz, to_hz, rows, dtype="float32", quality="HQ")
        self._stream: Any = None
        self._rows = 1

    def push(self, block: Tensor) -> Tensor:
        self._rows = block.shape[0]
        self._stream = self._stream or self._open(self._rows)
        return self._convert(block.cpu().numpy().T).to(block.device)

    def finish(self) -> Tensor:
        return self._convert(np.zeros((0, self._rows), np.float32), last=True)

    def _convert(self, samples: np.ndarray, last: bool = False) -> Tensor:
        samples = np.ascontiguousarray(samples if self._rows > 1 else samples[:, 0])
        done = self._stream.resample_chunk(samples, last=last)
        return torch.from_numpy(np.ascontiguousarray(done.reshape(len(done), self._rows).T))


def _decode(path: Path, block_seconds: float) -> Iterator[tuple[np.ndarray, int]]:
    """Blocks (samples, channels) and their rate."""
    if not path.is_file():
        raise UnreadableAudio(f"{path}: " + ("is a folder, not a file" if path.is_dir() else "no such file"))
    if path.suffix.lower() in CONTAINERS:
        yield from _decode_container(path, block_seconds)
        return
    try:
        with soundfile.SoundFile(for_libsndfile(str(path))) as file:
            size = max(1, round(block_seconds * checked_rate(file.samplerate, str(path))))
            while len(block := file.read(size, dtype="float32", always_2d=True)):
                yield block, file.samplerate
            check_whole(file, str(path))
    except (soundfile.SoundFileError, OSError) as error:
        reason = " ".join(str(getattr(error, "error_string", error)).split())
        raise UnreadableAudio(f"{path}: not readable as audio ({reason})") from error


def _decode_container(path: Path, block_seconds: float) -> Iterator[tuple[np.ndarray, int]]:
    try:
        from torchcodec.decoders import AudioDecoder
    except (ImportError, OSError, RuntimeError) as error:  # the last: FFmpeg's libraries are missing
        raise UnreadableAudio(
            f"{path}: {path.suffix} needs FFmpeg and torchcodec: pip install sslam-lightning[m4a], or convert it to flac"
        ) from error
    try:
        decoder = AudioDecoder(str(path))
        rate_hz, start = decoder.metadata.sample_rate, 0.0
        end = decoder.metadata.duration_seconds_from_header or math.inf
        while start < end:
            samples = decoder.get_samples_played_in_range(start, min(start + block_seconds, end))
            yield np.ascontiguousarray(samples.data.numpy().T), rate_hz
            start += block_seconds
    except (RuntimeError, ValueError, OSError, IndexError) as error:
        raise UnreadableAudio(f"{path}: not readable as audio ({' '.join(str(error).split())[:200]})") from error
