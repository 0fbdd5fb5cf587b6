"""Recordings of any length, decoded and resampled by blocks, so that memory does not grow with them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sslam_lightning.data.audio import (
    MissingResampler,
    UnreadableAudio,
    average_channels,
    check_is_file,
    check_resampler,
    check_sample_rate,
    open_sound,
)
from sslam_lightning.data.containers import container_hint, is_container
from sslam_lightning.data.sinc_resampler import sinc_resampler
from sslam_lightning.data.storage import for_libsndfile
from sslam_lightning.types import ResamplerName
from sslam_lightning.whole_numbers import whole_rate

_BLOCK_SECONDS = 20.0
_NO_MORE, _NO_FFMPEG = "No audio frames were decoded", "Could not load libtorchcodec"  # how torchcodec says so


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
        waveform = average_channels(channels)
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
        ValueError: unknown method, or a rate that is not a positive whole number.
        MissingResampler: "soxr" is not installed.
    """
    check_resampler(method)
    from_hz, to_hz = whole_rate(from_hz, "from_hz"), whole_rate(to_hz, "to_hz")
    if from_hz <= 0 or to_hz <= 0:
        raise ValueError(f"sample rates must be positive, got {from_hz} Hz and {to_hz} Hz")
    if from_hz == to_hz:
        return _SameRate()
    return _SincStream(from_hz, to_hz) if method == "torchaudio" else _SoxrResampler(from_hz, to_hz)


class _SameRate:
    def __init__(self) -> None:
        self._rows = torch.zeros(1, 0, dtype=torch.float32, device="cpu")

    def push(self, block: Tensor) -> Tensor:
        self._rows = block[:, :0]
        return block

    def finish(self) -> Tensor:
        return self._rows


class _SincStream:
    """What `SincResampler` needs to go on where it stopped."""

    def __init__(self, from_hz: int, to_hz: int) -> None:
        self._sinc = sinc_resampler(from_hz, to_hz)
        self._held: Tensor | None = None  # input from `width` samples before the next period on
        self._num_in = self._num_out = 0

    def push(self, block: Tensor) -> Tensor:
        if self._held is None:
            self._held = block.new_zeros(block.shape[0], self._sinc.width)
        self._num_in += block.shape[1]
        self._held = torch.cat([self._held, block], dim=1)
        count = (self._held.shape[1] - self._sinc.reach) // self._sinc.period_in + 1
        if count <= 0:
            return self._held[:, :0]
        out = self._sinc.periods(self._held, count)
        self._held = self._held[:, count * self._sinc.period_in :]
        self._num_out += out.shape[1]
        return out

    def finish(self) -> Tensor:
        assert self._held is not None
        return self._sinc.last_periods(self._held, self._sinc.num_resampled(self._num_in) - self._num_out)


class _SoxrResampler:
    def __init__(self, from_hz: int, to_hz: int) -> None:
        try:
            import soxr
        except (ImportError, OSError) as error:
            raise MissingResampler(
                f"soxr cannot be imported ({error}), but the model's data was resampled with it: "
                "pip install 'sslam-lightning[soxr]'"
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
    check_is_file(str(path))
    if is_container(path):
        yield from _decode_container(path, block_seconds)
        return
    with open_sound(for_libsndfile(str(path)), str(path)) as file:
        size = max(1, round(block_seconds * file.samplerate))
        while len(block := file.read(size, dtype="float32", always_2d=True)):
            yield block, file.samplerate


def _decode_container(path: Path, block_seconds: float) -> Iterator[tuple[np.ndarray, int]]:
    missing = f"{path}: {container_hint(path)}"
    try:
        from torchcodec.decoders import AudioDecoder
    except (ImportError, OSError, RuntimeError) as error:
        raise UnreadableAudio(missing) from error
    start = 0.0
    try:
        decoder = AudioDecoder(str(path))
        rate_hz = decoder.metadata.sample_rate
        check_sample_rate(rate_hz, str(path))
        # webm and mkv do not tell, and have times in milliseconds: where blocks meet, half a one may be lost or come twice.
        end = decoder.metadata.duration_seconds_from_header or math.inf
        while start < end:
            samples = decoder.get_samples_played_in_range(start, min(start + block_seconds, end))
            yield np.ascontiguousarray(samples.data.numpy().T), rate_hz
            start += block_seconds
    except UnreadableAudio:
        raise
    except (RuntimeError, ValueError, OSError, IndexError) as error:
        if start and _NO_MORE in str(error):
            return
        if _NO_FFMPEG in str(error):
            raise UnreadableAudio(missing) from error
        raise UnreadableAudio(f"{path}: not readable as audio ({' '.join(str(error).split())[:200]})") from error
