"""What the benchmarks HEAR and X-ARES check of a model."""

from __future__ import annotations

import pytest
import torch

from sslam_lightning.adapters import hear, xares
from sslam_lightning.features import LogMels
from sslam_lightning.inference import AudioModel
from sslam_lightning.models import Encoder, EncoderConfig


@pytest.fixture
def model(monkeypatch) -> AudioModel:
    """BlockInput as in training, unless it is told to mask padding, which both have to."""
    model = AudioModel(Encoder(EncoderConfig(dim=16, depth=1, num_heads=2)), features=LogMels(), padding="trained")
    monkeypatch.setattr(hear, "from_pretrained", lambda name: model if name == "m.pt" else None)
    return model


@pytest.mark.parametrize("seconds", [0.1, 1.07, 1.98, 2.74, 4.0])
def test_hear(model, seconds) -> None:
    """Attributes, shapes, types, and times in milliseconds that lie within the sound and reach its end."""
    loaded = hear.load_model("m.pt")
    assert loaded.sample_rate == 16000
    assert model.padding == "masked"
    assert loaded.scene_embedding_size == loaded.timestamp_embedding_size == 16
    audio = torch.rand(2, int(seconds * 16000)) * 2 - 1
    scene = hear.get_scene_embeddings(audio, loaded)
    assert (scene.shape, scene.dtype) == ((2, 16), torch.float32)
    torch.testing.assert_close(scene[1], model(audio[1], 16000).clip, atol=1e-5, rtol=0)
    frames, times = hear.get_timestamp_embeddings(audio, loaded)
    assert (frames.dtype, frames.shape[:2]) == (torch.float32, times.shape)
    torch.testing.assert_close(times[0], 87.5 + 160.0 * torch.arange(times.shape[1]))
    assert times.max() <= max(1000 * seconds, 87.5)
    assert times.max() >= 1000 * seconds - 2 * 160
    torch.testing.assert_close(frames[1], model(audio[1], 16000).frames[: times.shape[1]], atol=1e-5, rtol=0)


def test_xares(model, monkeypatch) -> None:
    """One class whose name ends in Encoder, made without arguments."""
    monkeypatch.setenv("SSLAM_MODEL", "m.pt")
    (name,) = (name for name in dir(xares) if name.endswith("Encoder"))
    encoder = getattr(xares, name)()
    assert isinstance(encoder, torch.nn.Module)
    assert model.padding == "masked"
    assert (encoder.sampling_rate, encoder.output_dim, encoder.hop_size_in_ms) == (16000, 16, 160)
    audio = torch.randn(3, 50000)
    found = encoder(audio)
    assert found.shape == (3, 20, 16)  # 3125 ms in steps of 160
    torch.testing.assert_close(found, model(audio, 16000).frames)
    assert encoder(audio[0]).shape == (1, 20, 16)


def test_a_model_has_to_be_named(model, monkeypatch) -> None:
    monkeypatch.delenv("SSLAM_MODEL", raising=False)
    for load in (hear.load_model, xares.SSLAMEncoder):
        with pytest.raises(ValueError, match=r"no model is named: give a path or a Hub id, or set .* SSLAM_MODEL"):
            load()
