"""The plainest wav file there is: mono, float32 or 16-bit, the same bytes for the same samples.

libsndfile writes the time of day into float files, so shards would differ from run to run; and reading such a file
needs no library at all.
"""

from __future__ import annotations

import struct

import numpy as np

_PCM, _FLOAT = 1, 3
_HEADER = struct.Struct("<4sI4s4sIHHIIHHH4sII4sI")  # RIFF, fmt (18 bytes), fact, data
Samples = np.ndarray  # (samples,) float32, or int16 where full scale is 32768


def encode_wav(samples: Samples, sample_rate_hz: int) -> bytes:
    """A mono wav file of float32 or int16 samples."""
    tag = {np.dtype("float32"): _FLOAT, np.dtype("int16"): _PCM}[samples.dtype]
    data = samples.astype(samples.dtype.newbyteorder("<"), copy=False).tobytes()
    width = samples.itemsize
    header = _HEADER.pack(
        *(b"RIFF", _HEADER.size - 8 + len(data), b"WAVE"),
        *(b"fmt ", 18, tag, 1, sample_rate_hz, sample_rate_hz * width, width, 8 * width, 0),
        *(b"fact", 4, len(samples), b"data", len(data)),
    )
    return header + data


def decode_wav(file: bytes) -> tuple[Samples, int] | None:
    """Float32 samples and rate of a file that `encode_wav` wrote; None: some other file."""
    if len(file) < _HEADER.size:
        return None
    riff, _, wave, _, _, tag, channels, rate_hz, _, _, bits, _, fact, _, _, mark, num_bytes = _HEADER.unpack_from(file)
    if (riff, wave, fact, mark, channels) != (b"RIFF", b"WAVE", b"fact", b"data", 1):
        return None
    if (tag, bits) not in ((_FLOAT, 32), (_PCM, 16)) or num_bytes != len(file) - _HEADER.size:
        return None
    if tag == _FLOAT:
        return np.frombuffer(file, "<f4", offset=_HEADER.size).astype(np.float32), rate_hz  # a copy that may be written to
    return np.frombuffer(file, "<i2", offset=_HEADER.size).astype(np.float32) / np.float32(32768), rate_hz
