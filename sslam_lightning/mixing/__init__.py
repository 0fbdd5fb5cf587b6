"""Mixtures of clips: one mixer a file, batched on the device."""

from sslam_lightning.mixing.full import FullMixing
from sslam_lightning.mixing.mixer import Mixer
from sslam_lightning.mixing.partial import PartialMixing

__all__ = ["FullMixing", "Mixer", "PartialMixing"]
