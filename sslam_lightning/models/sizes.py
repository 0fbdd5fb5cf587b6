"""The named sizes of encoder and decoder."""

from __future__ import annotations

from sslam_lightning.models.config import EncoderConfig
from sslam_lightning.models.decoders.conv import DecoderConfig

SIZES: dict[str, tuple[EncoderConfig, DecoderConfig]] = {
    "tiny": (EncoderConfig(dim=96, depth=4, num_heads=4), DecoderConfig(dim=96, depth=2, groups=8)),
    "small": (EncoderConfig(dim=192, depth=6, num_heads=6), DecoderConfig(dim=192, depth=3, groups=16)),
    "base": (EncoderConfig(), DecoderConfig()),
    "large": (EncoderConfig(dim=1024, depth=24, num_heads=16), DecoderConfig(dim=1024, depth=3, kernel_size=5)),
}
