"""Encoders, decoders, heads and the teacher: plain PyTorch, usable without Lightning."""

from sslam_lightning.models.build import build_encoder
from sslam_lightning.models.classifier import Classifier, classify
from sslam_lightning.models.clip_encoder import ClipEncoder
from sslam_lightning.models.config import ConvPositionsConfig, DecoderConfig, EncoderConfig
from sslam_lightning.models.conv_decoder import ConvDecoder
from sslam_lightning.models.encoder import Encoder
from sslam_lightning.models.frame_head import FrameHead
from sslam_lightning.models.front_end import BatchReader, FrontEnd, FrontEndConfig, Readings, TokenReader
from sslam_lightning.models.heads import ClassificationHead
from sslam_lightning.models.hugging_face_clip_encoder import HuggingFaceClipEncoder
from sslam_lightning.models.hugging_face_encoder import HuggingFaceEncoder, HuggingFaceTeacher
from sslam_lightning.models.hugging_face_model import HuggingFaceConfig
from sslam_lightning.models.image import ImageConfig, ImagePatches
from sslam_lightning.models.inputs import ImageInput, Input, LogMelInput, TextInput, WaveformInput
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
    "ClipEncoder",
    "ConvDecoder",
    "ConvPositionsConfig",
    "DecoderConfig",
    "Encoder",
    "EncoderConfig",
    "FrameHead",
    "FrontEnd",
    "FrontEndConfig",
    "HuggingFaceClipEncoder",
    "HuggingFaceConfig",
    "HuggingFaceEncoder",
    "HuggingFaceTeacher",
    "ImageConfig",
    "ImageInput",
    "ImagePatches",
    "Input",
    "LogMelInput",
    "Readings",
    "SpectrogramPatches",
    "SpectrogramTokens",
    "SpectrogramTokensConfig",
    "Teacher",
    "TextConfig",
    "TextInput",
    "TokenEmbeddings",
    "TokenReader",
    "TransformerDecoder",
    "TransformerDecoderConfig",
    "WaveformConfig",
    "WaveformFrames",
    "WaveformInput",
    "build_encoder",
    "classify",
]
