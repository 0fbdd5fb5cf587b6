"""Tags, embeddings and export of pre-trained models: plain PyTorch, usable without Lightning."""

from sslam_lightning.inference.encoding import EncoderModel, Encodings
from sslam_lightning.inference.image_and_text import ImageModel, TextModel
from sslam_lightning.inference.loading import load, load_model
from sslam_lightning.inference.model import Analysis, AudioModel

__all__ = ["Analysis", "AudioModel", "EncoderModel", "Encodings", "ImageModel", "TextModel", "load", "load_model"]
