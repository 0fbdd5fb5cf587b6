"""Tags, embeddings and export of pre-trained models: plain PyTorch, usable without Lightning."""

from sslam_lightning.inference.loading import load
from sslam_lightning.inference.model import Analysis, AudioModel, Encodings

__all__ = ["Analysis", "AudioModel", "Encodings", "load"]
