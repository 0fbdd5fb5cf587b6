from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from sslam_lightning.features import LogMels
from sslam_lightning.inference import AudioModel
from sslam_lightning.inference.sources import Source
from sslam_lightning.models import ClassificationHead, Encoder, EncoderConfig

CONFIG = EncoderConfig(dim=16, depth=2, num_heads=2)


@pytest.fixture
def make_model() -> Callable[..., AudioModel]:
    """A tiny model of random weights; with a head of five classes where a pooling is named."""

    def make(pooling: str | None = None, trained_frames: int | None = 64, **settings) -> AudioModel:
        torch.manual_seed(1)
        encoder = Encoder(CONFIG)
        for block in encoder.blocks:  # as they are, random blocks hardly change what goes through them
            for parameter in block.parameters():
                parameter.data += 0.2 * torch.randn_like(parameter)
        head = ClassificationHead(16, 5, pooling) if pooling else None
        if head:
            head.linear.weight.data.normal_()
        features = LogMels(num_frames=trained_frames)
        return AudioModel(encoder, head, features, [f"sound {number}" for number in range(5)] if head else (), **settings)

    return make


@pytest.fixture
def write_noise(tmp_path: Path) -> Callable[..., Source]:
    """Write a little noise, as soft or loud as its length tells."""

    def write(name: str, seconds: float = 1.0, rate_hz: int = 16000, channels: int = 1, seed: int = 0) -> Source:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = (round(seconds * rate_hz), channels)
        wave = np.random.default_rng(seed).normal(size=shape) * 0.1 * np.linspace(0.2, 1, shape[0])[:, None]
        soundfile.write(path, wave.astype(np.float32).clip(-1, 1), rate_hz)
        return Source(name, path)

    return write
