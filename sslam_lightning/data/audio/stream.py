"""Recordings of any length, decoded and resampled in blocks, so that memory does not grow with them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import Tensor

from sslam_lightning.data.audio.read import (
    UnreadableAudio,
    average_channels,
    check_is_file,
    check_sample_rate,
    container_hint,
    is_container,
    open_sound,
)
from sslam_lightning.data.audio.resample import Resampler, streaming_resampler
from sslam_lightning.data.filesystem import for_libsndfile
from sslam_lightning.types import ResamplerName

_NO_MORE, _NO_FFMPEG = "No audio frames were decoded", "Could not load libtorchcodec"  # torchcodec's messages


def stream_audio(
    path: str | Path, to_hz: int, resampler: ResamplerName = "torchaudio", block_seconds: float = 20.0
) -> Iterator[Float[Tensor, "samples"]]:
    """Decode a file in blocks, average its channels, and resample without a trace of the blocks.

    Joined, the blocks are what :func:`~sslam_lightning.data.audio.read_audio` and
    :func:`~sslam_lightning.data.audio.resample.resample` make of the whole file, up to rounding.

    Args:
        path: what libsndfile reads; with torchcodec also m4a and other containers.
        to_hz: sample rate of the output.
        resampler: see :func:`~sslam_lightning.data.audio.resample.resample`.
        block_seconds: how much is decoded at a time.

    Raises:
        UnreadableAudio: as ``read_audio``, also in the middle of a file.
    """
    converter: Resampler | None = None
    for channels, from_hz in _decode(Path(path), block_seconds):
        waveform = average_channels(channels)
        if not waveform.isfinite().all():
            raise UnreadableAudio(f"{path}: holds samples that are NaN or infinite")
        converter = converter or streaming_resampler(from_hz, to_hz, resampler)
        yield converter.push(waveform[None])[0]
    if converter is None:
        raise UnreadableAudio(f"{path}: holds no samples")
    yield converter.finish()[0]


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
        # webm and mkv tell no duration and have times in milliseconds: half a one may be lost or repeated between blocks.
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
