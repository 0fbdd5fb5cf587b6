"""From a file of sound to a mono waveform at the rate the model wants.

libsndfile (through soundfile) decodes wav, flac, ogg, opus and mp3 without any system library. The resampler is
visible in the top mel bins, so its name belongs to the description of a data set: "torchaudio" is what the released
weights were trained on, "soxr" (HQ) is the better filter.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from math import ceil
from pathlib import Path
from typing import IO, get_args

import numpy as np
import soundfile
import torch
from jaxtyping import Float
from torch import Tensor

from sslam_lightning.data.containers import CONTAINERS, container_hint, is_container
from sslam_lightning.data.sinc_resampler import sinc_resampler
from sslam_lightning.data.storage import for_libsndfile, is_url, local_path, open_binary
from sslam_lightning.data.truncation import is_length
from sslam_lightning.data.wav import decode_wav
from sslam_lightning.types import ResamplerName
from sslam_lightning.whole_numbers import whole_rate

READABLE_EXTENSIONS = frozenset((".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au"))
AUDIO_EXTENSIONS = READABLE_EXTENSIONS | CONTAINERS  # with what libsndfile cannot read

# How libsndfile's log tells of a wav or aiff whose sound is shorter than its header says; it reads on without an error.
_CUT_OFF = re.compile(r"(?:data|SSND) : (?P<told>\d+) \(should be (?P<there>\d+)\)")
_MIN_HZ, _MAX_HZ = 1000, 768_000  # rates that recordings have; others come from broken headers
_MARGIN_SECONDS = 0.1  # read behind the cut, so that the resampler's filter sees no false end


class MissingResampler(RuntimeError):
    """A library that resamples cannot be imported."""

    for_users = True  # the message says it all


class UnreadableAudio(ValueError):
    """A file that cannot be used as a recording; the message is one line: the path and the reason."""


def read_audio(
    path: str | Path, max_seconds: float | None = None, start_seconds: float = 0.0
) -> tuple[Float[Tensor, "samples"], int]:
    """Decode a file (wav, flac, ogg, mp3, whatever libsndfile knows) and average its channels.

    Args:
        path: the file, or its URL (whatever fsspec opens).
        max_seconds: decode no more than this from the start (and a tenth of a second, for the resampler); None: all.
        start_seconds: leave out this much of the file's beginning.

    Returns:
        The mono waveform, float32, full scale is 1; and its sample rate in Hz.

    Raises:
        UnreadableAudio: no such file, not audio, cut off (which an mp3 does not tell), an implausible sample rate, no
            samples, or samples that are not finite.
    """
    path = local_path(path)
    if is_url(path):
        return _read_remote(path, max_seconds, start_seconds)
    check_is_file(path)
    return _decode(for_libsndfile(path), path, max_seconds, start_seconds)


def decode_audio(file: bytes, name: str, max_seconds: float | None = None) -> tuple[Float[Tensor, "samples"], int]:
    """As `read_audio`, of the bytes of a file; ``name`` is what messages call it."""
    plain = decode_wav(file)
    if plain is None:
        return _decode(io.BytesIO(file), name, max_seconds)
    samples, sample_rate_hz = plain
    check_sample_rate(sample_rate_hz, name)
    kept = len(samples) if max_seconds is None else ceil((max_seconds + _MARGIN_SECONDS) * sample_rate_hz)
    return _checked(torch.from_numpy(samples[:kept]), name), sample_rate_hz


def _read_remote(url: str, max_seconds: float | None, start_seconds: float) -> tuple[Float[Tensor, "samples"], int]:
    try:
        with open_binary(url) as file:
            return _decode(file, url, max_seconds, start_seconds)
    except FileNotFoundError as error:
        raise UnreadableAudio(f"{url}: no such file") from error
    except UnreadableAudio:
        raise
    except Exception as error:  # libraries of protocols have classes of their own
        raise UnreadableAudio(f"{url}: cannot be read ({_first_line(error)})") from error


def check_is_file(path: str) -> None:
    """Raise UnreadableAudio unless there is a file."""
    if not os.path.isfile(path):
        raise UnreadableAudio(f"{path}: " + ("is a folder, not a file" if os.path.isdir(path) else "no such file"))


def check_sample_rate(sample_rate_hz: int, name: str) -> None:
    """Raise UnreadableAudio if no recording has such a rate: to resample from it could take any amount of memory."""
    if not _MIN_HZ <= sample_rate_hz <= _MAX_HZ:
        raise UnreadableAudio(f"{name}: implausible sample rate: {sample_rate_hz} Hz, expected {_MIN_HZ} to {_MAX_HZ} Hz")


@contextmanager
def open_sound(file: str | bytes | IO[bytes], name: str) -> Iterator[soundfile.SoundFile]:
    """A file that libsndfile knows, open to be read.

    Args:
        file: what `for_libsndfile` makes of a path, or an open file.
        name: what messages call it.

    Raises:
        UnreadableAudio: not audio, cut off, or an implausible sample rate; also while it is read.
    """
    try:
        with soundfile.SoundFile(file) as sound:
            cut_off = _CUT_OFF.search(sound.extra_info)
            if cut_off and is_length(int(cut_off["told"])) and int(cut_off["there"]) < int(cut_off["told"]):
                raise UnreadableAudio(
                    f"{name}: cut off, {cut_off['there']} bytes of sound where its header tells {cut_off['told']}"
                )
            check_sample_rate(sound.samplerate, name)
            yield sound
    except (soundfile.SoundFileError, OSError) as error:
        reason = " ".join(str(getattr(error, "error_string", error)).split())
        reason += f"; {container_hint(name, for_data=True)}" if is_container(name) else ""
        raise UnreadableAudio(f"{name}: not readable as audio ({reason})") from error


def average_channels(samples: Float[np.ndarray, "samples channels"]) -> Float[Tensor, "samples"]:
    """A mono waveform."""
    return torch.from_numpy(samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)).contiguous()


def _decode(
    file: str | bytes | IO[bytes], name: str, max_seconds: float | None, start_seconds: float = 0.0
) -> tuple[Float[Tensor, "samples"], int]:
    with open_sound(file, name) as sound:
        if start_seconds:
            sound.seek(min(round(start_seconds * sound.samplerate), sound.frames))
        wanted = -1 if max_seconds is None else ceil((max_seconds + _MARGIN_SECONDS) * sound.samplerate)
        waveform = average_channels(sound.read(wanted, dtype="float32", always_2d=True))
        return _checked(waveform, name), sound.samplerate


def _checked(waveform: Float[Tensor, "samples"], name: str) -> Float[Tensor, "samples"]:
    if len(waveform) == 0:
        raise UnreadableAudio(f"{name}: holds no samples")
    # A sum is not finite unless its terms are, and takes a tenth of the time.
    if not waveform.sum().isfinite() and not waveform.isfinite().all():
        raise UnreadableAudio(f"{name}: holds samples that are NaN or infinite")
    return waveform


def check_resampler(method: str) -> None:
    """Raise ValueError unless ``method`` is the name of a resampler."""
    if method not in get_args(ResamplerName):
        raise ValueError(f"resampler must be one of {', '.join(get_args(ResamplerName))}, got {method!r}")


def resample(
    waveform: Float[Tensor, "samples"], from_hz: int, to_hz: int, method: ResamplerName = "torchaudio"
) -> Float[Tensor, "resampled"]:
    """Change the sample rate; equal rates return the waveform as it is.

    Args:
        waveform: mono, float32.
        from_hz: its sample rate; 44100.0 is one of 44100 Hz.
        to_hz: the wanted sample rate.
        method: "torchaudio" equals ``torchaudio.functional.resample`` with its default arguments (Hann-windowed sinc,
            width 6, rolloff 0.99), several times as fast (see `SincResampler`); "soxr" is libsoxr at HQ.

    Raises:
        ValueError: unknown method, or a rate that is not a positive whole number.
        MissingResampler: soxr cannot be imported; the message says what to install.
    """
    check_resampler(method)
    from_hz, to_hz = whole_rate(from_hz, "from_hz"), whole_rate(to_hz, "to_hz")
    if from_hz <= 0 or to_hz <= 0:
        raise ValueError(f"sample rates must be positive, got {from_hz} Hz and {to_hz} Hz")
    if from_hz == to_hz:
        return waveform
    return (sinc_resampler if method == "torchaudio" else _soxr_resampler)(from_hz, to_hz)(waveform)


@lru_cache(maxsize=32)
def _soxr_resampler(from_hz: int, to_hz: int) -> Callable[[Tensor], Tensor]:
    try:
        import soxr
    except (ImportError, OSError) as error:
        raise MissingResampler(
            f"soxr cannot be imported ({_first_line(error)}): pip install 'sslam-lightning[soxr]', "
            "or choose data.resampler: torchaudio"
        ) from error
    return lambda waveform: torch.from_numpy(soxr.resample(waveform.numpy(), from_hz, to_hz, quality="HQ"))


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
