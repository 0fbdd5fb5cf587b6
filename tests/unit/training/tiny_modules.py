"""Modules on 32 frames of 16 mels (8 x 4 patches), and batches for them."""

from __future__ import annotations

from typing import Any

import torch

from sslam_lightning.features import LogMels
from sslam_lightning.losses import TeacherTargets
from sslam_lightning.masking import InverseBlockMask
from sslam_lightning.models import ConvDecoderConfig, EncoderConfig
from sslam_lightning.training import FinetuneModule, PretrainModule
from sslam_lightning.types import Batch

ENCODER = EncoderConfig(dim=16, depth=2, num_heads=2, mlp_ratio=2.0, patch_size=4, num_mels=16)
DECODER = ConvDecoderConfig(dim=16, depth=2, groups=4)
FEATURES = LogMels(num_frames=32, num_mels=16, patch_frames=4)


def pretrain(**settings: Any) -> PretrainModule:
    """With two masks a clip; ``settings`` are those of the module."""
    settings = {
        "masking": InverseBlockMask(0.75, 2),
        "masks_per_clip": 2,
        "targets": TeacherTargets(2),
        "encoder": ENCODER,
        **settings,
    }
    return PretrainModule(decoder=DECODER, features=FEATURES, **settings)


def finetune(**settings: Any) -> FinetuneModule:
    """For four classes."""
    return FinetuneModule(**{"encoder": ENCODER, "features": FEATURES, "num_classes": 4, **settings})


def noise(clips: int = 4, samples: int = 6000) -> Batch:
    """Clips of noise; the first is of classes 0 and 1, the others of class 2."""
    waveforms = 0.1 * torch.randn(clips, samples, generator=torch.Generator().manual_seed(1))
    labels = torch.zeros(clips, 4)
    labels[:1, :2] = 1
    labels[1:, 2] = 1
    names = tuple(f"clip {number}" for number in range(clips))
    return Batch(waveforms, [samples] * clips, labels, torch.arange(clips), names)
