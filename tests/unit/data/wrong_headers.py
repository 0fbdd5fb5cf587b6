"""Files whose header tells what is not so."""

from __future__ import annotations

import numpy as np

from sslam_lightning.data.audio.wav import encode_wav


def told_as(rate_hz: int, samples: np.ndarray) -> bytes:
    """A wav file whose header tells this rate."""
    whole = encode_wav(samples, 16000)
    return whole[:24] + rate_hz.to_bytes(4, "little") + whole[28:]
