"""Settings of tiny encoders that read patches, frames and waveforms."""

from __future__ import annotations

from sslam_lightning.models import SpectrogramTokensConfig, WaveformConfig

FRONT_ENDS = {
    "patches": {},
    "frames": {"front_end": SpectrogramTokensConfig(2, 128), "cls_token": False},
    "waveform": {
        "front_end": WaveformConfig(((8, 10, 5), *[(8, 3, 2)] * 4, *[(8, 2, 2)] * 2)),
        "cls_token": False,
        "alibi": "learned",
    },
}
