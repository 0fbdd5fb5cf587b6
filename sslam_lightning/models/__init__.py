"""Encoders, decoders, heads and the teacher: plain PyTorch, usable without Lightning."""

from sslam_lightning.models.classifier import Classifier
from sslam_lightning.models.config import DecoderConfig, EncoderConfig
from sslam_lightning.models.conv_decoder import ConvDecoder
from sslam_lightning.models.encoder import Encoder
from sslam_lightning.models.heads import ClassificationHead
from sslam_lightning.models.spectrogram import SpectrogramPatches
from sslam_lightning.models.teacher import Teacher

__all__ = [
    "ClassificationHead",
    "Classifier",
    "ConvDecoder",
    "DecoderConfig",
    "Encoder",
    "EncoderConfig",
    "SpectrogramPatches",
    "Teacher",
]
