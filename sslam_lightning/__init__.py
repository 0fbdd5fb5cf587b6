"""SSLAM and its family: self-supervised pre-training of audio encoders on PyTorch Lightning."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sslam_lightning.version import __version__

if TYPE_CHECKING:
    from sslam_lightning.checkpoints import load_classifier, load_encoder
    from sslam_lightning.data import AudioSetDataModule, ESC50DataModule, SyntheticDataModule
    from sslam_lightning.inference import AudioModel, from_pretrained
    from sslam_lightning.models import Encoder, EncoderConfig
    from sslam_lightning.training import DetectionModule, FinetuneModule, PretrainModule

# Imported on first use, so that `sslam --help` need not wait for torch.
_HOMES = {
    "AudioModel": "sslam_lightning.inference",
    "AudioSetDataModule": "sslam_lightning.data",
    "DetectionModule": "sslam_lightning.training",
    "ESC50DataModule": "sslam_lightning.data",
    "SyntheticDataModule": "sslam_lightning.data",
    "Encoder": "sslam_lightning.models",
    "EncoderConfig": "sslam_lightning.models",
    "FinetuneModule": "sslam_lightning.training",
    "PretrainModule": "sslam_lightning.training",
    "from_pretrained": "sslam_lightning.inference",
    "load_classifier": "sslam_lightning.checkpoints",
    "load_encoder": "sslam_lightning.checkpoints",
}

__all__ = [
    "AudioModel",
    "AudioSetDataModule",
    "DetectionModule",
    "ESC50DataModule",
    "Encoder",
    "EncoderConfig",
    "FinetuneModule",
    "PretrainModule",
    "SyntheticDataModule",
    "__version__",
    "from_pretrained",
    "load_classifier",
    "load_encoder",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
