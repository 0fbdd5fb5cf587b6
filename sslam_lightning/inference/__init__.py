"""Tags, embeddings and export of pre-trained models: plain PyTorch, usable without Lightning."""

from sslam_lightning.inference.encoding import EncoderModel, Encodings
from sslam_lightning.inference.image_and_text import ImageModel, TextModel
from sslam_lightning.inference.loading import create_model, from_pretrained, load_model
from sslam_lightning.inference.model import AudioModel, AudioOutput

__all__ = [
    "AudioModel",
    "AudioOutput",
    "EncoderModel",
    "Encodings",
    "ImageModel",
    "TextModel",
    "create_model",
    "from_pretrained",
    "load_model",
]
