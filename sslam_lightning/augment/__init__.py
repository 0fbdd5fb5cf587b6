"""Augmentation, keyed per clip: waveforms, spectrograms, mixtures of labeled clips."""

from sslam_lightning.augment.mixup import Mixed, Mixup
from sslam_lightning.augment.spectrogram import SpecAugment, noise_and_roll
from sslam_lightning.augment.waveform import crop_to_shortest, roll, roll_and_gain

__all__ = ["Mixed", "Mixup", "SpecAugment", "crop_to_shortest", "noise_and_roll", "roll", "roll_and_gain"]
