"""The encoder that a configuration describes."""

from __future__ import annotations

from sslam_lightning.models.clip_encoder import ClipEncoder
from sslam_lightning.models.config import EncoderConfig
from sslam_lightning.models.encoder import Encoder
from sslam_lightning.models.transformers.clip_encoder import HuggingFaceClipEncoder
from sslam_lightning.models.transformers.model import HuggingFaceConfig


def build_encoder(config: EncoderConfig | HuggingFaceConfig) -> ClipEncoder:
    """This project's own, or a model of Hugging Face transformers, with fresh weights.

    Raises:
        ImportError: transformers is missing, where it is asked for.
        ValueError: if there is no such model.
    """
    return Encoder(config) if isinstance(config, EncoderConfig) else HuggingFaceClipEncoder(config)
