"""Encoders, decoders, heads and the teacher: plain PyTorch, usable without Lightning."""

from sslam_lightning.models.classifier import Classifier, classify
from sslam_lightning.models.config import ConvPositionsConfig, DecoderConfig, EncoderConfig
from sslam_lightning.models.conv_decoder import ConvDecoder
from sslam_lightning.models.encoder import Encoder
from sslam_lightning.models.frame_head import FrameHead
from sslam_lightning.models.front_end import BatchReader, FrontEnd, FrontEndConfig, Readings
from sslam_lightning.models.heads import ClassificationHead
from sslam_lightning.models.hugging_face_encoder import HuggingFaceConfig, HuggingFaceEncoder, HuggingFaceTeacher
from sslam_lightning.models.image import ImageConfig, ImagePatches
from sslam_lightning.models.spectrogram import SpectrogramPatches
from sslam_lightning.models.spectrogram_tokens import SpectrogramTokens, SpectrogramTokensConfig
from sslam_lightning.models.teacher import Teacher
from sslam_lightning.models.text import TextConfig, TokenEmbeddings
from sslam_lightning.models.transformer_decoder import TransformerDecoder, TransformerDecoderConfig
from sslam_lightning.models.waveform import WaveformConfig, WaveformFrames

__all__ = [
    "BatchReader",
    "ClassificationHead",
    "Classifier",
    "ConvDecoder",
    "ConvPositionsConfig",
    "DecoderConfig",
    "Encoder",
    "EncoderConfig",
    "FrameHead",
    "FrontEnd",
    "FrontEndConfig",
    "HuggingFaceConfig",
    "HuggingFaceEncoder",
    "HuggingFaceTeacher",
    "ImageConfig",
    "ImagePatches",
    "Readings",
    "SpectrogramPatches",
    "SpectrogramTokens",
    "SpectrogramTokensConfig",
    "Teacher",
    "TextConfig",
    "TokenEmbeddings",
    "TransformerDecoder",
    "TransformerDecoderConfig",
    "WaveformConfig",
    "WaveformFrames",
    "classify",
]
