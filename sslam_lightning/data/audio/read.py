"""Decode audio files to mono waveforms.

libsndfile (through soundfile) reads wav, flac, ogg, opus, mp3, aiff and au without any system library.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from math import ceil
from pathlib import Path
from typing import IO

import numpy as np
import soundfile
import torch
from jaxtyping import Float
from torch import Tensor

from sslam_lightning.data.audio.truncation import missing_bytes
from sslam_lightning.data.audio.wav import decode_wav
from sslam_lightning.data.filesystem import for_libsndfile, is_url, local_path, open_binary

READABLE_EXTENSIONS = frozenset((".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au"))
CONTAINERS = frozenset((".m4a", ".mp4", ".aac", ".webm", ".mkv", ".mov", ".wma", ".3gp", ".mka"))  # FFmpeg reads them
AUDIO_EXTENSIONS = READABLE_EXTENSIONS | CONTAINERS

_MIN_HZ, _MAX_HZ = 1000, 768_000  # rates of real recordings; others come from corrupt headers
_MARGIN_SECONDS = 0.1  # read past the cut, so that the resampler's filter sees no artificial end


class UnreadableAudio(ValueError):
    """A file that cannot be used as a recording; the message is one line: the path and the reason."""


def read_audio(
    path: str | Path, max_seconds: float | None = None, start_seconds: float = 0.0
) -> tuple[Float[Tensor, "samples"], int]:
    """Decode a file and average its channels.

    Args:
        path: a path, or any URL that fsspec opens.
        max_seconds: decode at most this much (and 0.1 s more, for the resampler); None: everything.
        start_seconds: skip this much of the file's beginning.

    Returns:
        The mono waveform (float32, full scale is 1) and its sample rate in Hz.

    Raises:
        UnreadableAudio: no such file, not audio, truncated (not detected in mp3), an implausible sample rate, no
            samples, or samples that are not finite.
    """
    path = local_path(path)
    if not is_url(path):
        check_is_file(path)
        return _decode(for_libsndfile(path), path, max_seconds, start_seconds)
    try:
        with open_binary(path) as file:
            return _decode(file, path, max_seconds, start_seconds)
    except FileNotFoundError as error:
        raise UnreadableAudio(f"{path}: no such file") from error
    except UnreadableAudio:
        raise
    except Exception as error:  # the libraries behind fsspec have error classes of their own
        raise UnreadableAudio(f"{path}: cannot be read ({first_line(error)})") from error


def decode_audio(file: bytes, name: str, max_seconds: float | None = None) -> tuple[Float[Tensor, "samples"], int]:
    """Like `read_audio`, for the bytes of a file; ``name`` is used in messages."""
    plain = decode_wav(file)
    if plain is None:
        return _decode(io.BytesIO(file), name, max_seconds)
    samples, sample_rate_hz = plain
    check_sample_rate(sample_rate_hz, name)
    kept = len(samples) if max_seconds is None else ceil((max_seconds + _MARGIN_SECONDS) * sample_rate_hz)
    return _checked(torch.from_numpy(samples[:kept]), name), sample_rate_hz


def check_is_file(path: str) -> None:
    """Raise UnreadableAudio unless there is a file."""
    if not os.path.isfile(path):
        raise UnreadableAudio(f"{path}: " + ("is a folder, not a file" if os.path.isdir(path) else "no such file"))


def check_sample_rate(sample_rate_hz: int, name: str) -> None:
    """Raise UnreadableAudio for a rate that no recording has: resampling from it could take any amount of memory."""
    if not _MIN_HZ <= sample_rate_hz <= _MAX_HZ:
        raise UnreadableAudio(f"{name}: implausible sample rate: {sample_rate_hz} Hz, expected {_MIN_HZ} to {_MAX_HZ} Hz")


@contextmanager
def open_sound(file: str | bytes | IO[bytes], name: str) -> Iterator[soundfile.SoundFile]:
    """Open a file with libsndfile.

    Args:
        file: the result of `for_libsndfile`, or an open file.
        name: used in messages.

    Raises:
        UnreadableAudio: not audio, truncated, or an implausible sample rate; also while it is read.
    """
    try:
        with open(file, "rb") if isinstance(file, (str, bytes)) else nullcontext(file) as content:
            if missing := missing_bytes(content):
                raise UnreadableAudio(f"{name}: truncated: {missing} bytes are missing at its end")
            content.seek(0)
        with soundfile.SoundFile(file) as sound:
            check_sample_rate(sound.samplerate, name)
            yield sound
    except (soundfile.SoundFileError, OSError) as error:
        reason = " ".join(str(getattr(error, "error_string", error)).split())
        reason += f"; {container_hint(name, for_data=True)}" if is_container(name) else ""
        raise UnreadableAudio(f"{name}: not readable as audio ({reason})") from error


def is_container(path: str | os.PathLike[str]) -> bool:
    """Whether the file's extension is one that FFmpeg reads and libsndfile does not."""
    return os.path.splitext(path)[1].lower() in CONTAINERS


def container_hint(path: str | os.PathLike[str], for_data: bool = False) -> str:
    """What to do about a container that cannot be read; ``for_data``: in training, which reads with libsndfile alone."""
    extension, needs = os.path.splitext(path)[1], "needs FFmpeg and torchcodec: pip install 'sslam-lightning[m4a]'"
    if for_data:
        return f"{extension} is read by tag and embed alone, where it {needs}; to train on it, convert it to flac"
    return f"{extension} {needs}, or convert it to flac"


def average_channels(samples: Float[np.ndarray, "samples channels"]) -> Float[Tensor, "samples"]:
    """Convert to mono."""
    return torch.from_numpy(samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)).contiguous()


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or else its class."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _decode(
    file: str | bytes | IO[bytes], name: str, max_seconds: float | None, start_seconds: float = 0.0
) -> tuple[Float[Tensor, "samples"], int]:
    with open_sound(file, name) as sound:
        if start_seconds:
            sound.seek(min(round(start_seconds * sound.samplerate), sound.frames))
        frames = -1 if max_seconds is None else ceil((max_seconds + _MARGIN_SECONDS) * sound.samplerate)
        waveform = average_channels(sound.read(frames, dtype="float32", always_2d=True))
        return _checked(waveform, name), sound.samplerate


def _checked(waveform: Float[Tensor, "samples"], name: str) -> Float[Tensor, "samples"]:
    if len(waveform) == 0:
        raise UnreadableAudio(f"{name}: holds no samples")
    # A finite sum has finite terms, and takes a tenth of the time.
    if not waveform.sum().isfinite() and not waveform.isfinite().all():
        raise UnreadableAudio(f"{name}: holds samples that are NaN or infinite")
    return waveform
