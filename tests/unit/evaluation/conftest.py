from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from front_ends import FRONT_ENDS

from sslam_lightning.data import SyntheticDataModule
from sslam_lightning.evaluation.frozen import FeatureStore
from sslam_lightning.evaluation.model import Candidate, OpenedModel
from sslam_lightning.evaluation.protocols.base import Task
from sslam_lightning.features import LogMels
from sslam_lightning.models import Encoder, EncoderConfig


@pytest.fixture
def opened() -> Callable[..., OpenedModel]:
    """A random encoder of this front-end."""

    def open_it(front_end: str = "patches", num_frames: int | None = 64) -> OpenedModel:
        encoder = Encoder(EncoderConfig(dim=16, depth=2, num_heads=2, **FRONT_ENDS[front_end])).eval()
        features = None if front_end == "waveform" else LogMels(num_frames, patch_frames=2 if front_end == "frames" else 16)
        return OpenedModel(Candidate("none"), encoder, features, num_frames, "torchaudio", "")

    return open_it


@pytest.fixture
def task_of(tmp_path: Path) -> Callable[..., Task]:
    """A fold of soundscapes for a model."""

    def make(model: OpenedModel, max_bytes: float = 1e9, validation: Any = 0.25, **settings: Any) -> Task:
        def make_data(**over: Any) -> SyntheticDataModule:
            options = {"num_train": 24, "num_val": 8, "clip_seconds": 0.66, "num_classes": 4, "max_sources": 2}
            return SyntheticDataModule(**{**options, "batch_size": 5, "num_workers": 0, **settings, **over})

        store = FeatureStore(model, torch.device("cpu"), tmp_path, max_bytes)
        return Task(model, make_data, "mAP", validation, "all", 0, torch.device("cpu"), store)

    return make
