"""Encoders, decoders, heads and the teacher: plain PyTorch, usable without Lightning."""

from sslam_lightning.models.clip_encoder import ClipEncoder
from sslam_lightning.models.config import ConvPositionsConfig, EncoderConfig
from sslam_lightning.models.decoders.base import Decoder, DecoderConfig
from sslam_lightning.models.decoders.conv import ConvDecoder, ConvDecoderConfig
from sslam_lightning.models.decoders.transformer import TransformerDecoder, TransformerDecoderConfig
from sslam_lightning.models.encoder import Encoder
from sslam_lightning.models.front_ends.base import EncoderInput, FrontEnd, FrontEndConfig, TokenReader
from sslam_lightning.models.front_ends.image import ImageConfig, ImagePatches
from sslam_lightning.models.front_ends.inputs import ImageInput, Input, LogMelInput, TextInput, WaveformInput
from sslam_lightning.models.front_ends.spectrogram import SpectrogramPatches
from sslam_lightning.models.front_ends.spectrogram_tokens import SpectrogramTokens, SpectrogramTokensConfig
from sslam_lightning.models.front_ends.text import TextConfig, TokenEmbeddings
from sslam_lightning.models.front_ends.waveform import WaveformConfig, WaveformFrames
from sslam_lightning.models.heads import ClassificationHead, Classifier, FrameHead, classify
from sslam_lightning.models.teacher import Teacher
from sslam_lightning.models.transformers.clip_encoder import HuggingFaceClipEncoder
from sslam_lightning.models.transformers.model import HuggingFaceConfig
from sslam_lightning.models.transformers.student import HuggingFaceEncoder, HuggingFaceTeacher

__all__ = [
    "ClassificationHead",
    "Classifier",
    "ClipEncoder",
    "ConvDecoder",
    "ConvDecoderConfig",
    "ConvPositionsConfig",
    "Decoder",
    "DecoderConfig",
    "Encoder",
    "EncoderConfig",
    "EncoderInput",
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


def build_encoder(config: EncoderConfig | HuggingFaceConfig) -> ClipEncoder:
    """This project's encoder, or a model of Hugging Face transformers, with fresh weights; ValueError if there is none."""
    return Encoder(config) if isinstance(config, EncoderConfig) else HuggingFaceClipEncoder(config)
