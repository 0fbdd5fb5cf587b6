"""Models by name, with random weights."""

from __future__ import annotations

import pytest
import torch

import sslam_lightning
from sslam_lightning.models.sizes import MODELS


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_name_takes_sound(name: str) -> None:
    """With narrow encoders; every model has another front-end, and all take a waveform of any rate."""
    small = {"dim": 32, "depth": 2, "num_heads": 2}
    model = sslam_lightning.create_model(name, **small)
    found = model(torch.randn(22050) * 0.1, 22050)
    assert isinstance(found, sslam_lightning.AudioOutput)
    assert found.probs is None
    assert found.clip.shape == (32,)
    assert found.frames.shape == (len(found.timestamps), 32)
    assert found.frames.isfinite().all()
    assert {setting: getattr(model.encoder.config, setting) for setting in small} == small
    kept = MODELS[name].features
    assert (model.features is None) == (kept is None)
    if kept is not None:
        assert (model.features.num_frames, model.features.mean, model.features.kind) == (
            kept.num_frames,
            kept.mean,
            kept.kind,
        )
    assert not model.training


def test_weights_are_those_of_the_seed_and_of_a_plain_encoder() -> None:
    torch.manual_seed(3)
    model = sslam_lightning.create_model("eat_tiny")
    torch.manual_seed(3)
    encoder = sslam_lightning.Encoder(MODELS["eat_tiny"].encoder)
    for name, weights in encoder.state_dict().items():
        assert torch.equal(model.encoder.state_dict()[name], weights), name


def test_settings_are_those_of_from_pretrained_and_of_the_encoder() -> None:
    settings = {
        "depth": 2,
        "drop_path_end": 0.1,
        "features": {"mean": -3.0},
        "pool": "mean",
        "layer": 1,
        "padding": "trained",
    }
    model = sslam_lightning.create_model("eat_tiny", **settings)
    assert (model.encoder.depth, model.encoder.config.drop_path_end) == (2, 0.1)
    assert (model.features.mean, model.features.num_frames) == (-3.0, 112)
    assert (model.pool, model.layer, model.padding) == ("mean", 1, "trained")
    assert MODELS["eat_tiny"].encoder.depth == 4  # the table is as it was


def test_wrong_names_and_settings() -> None:
    with pytest.raises(ValueError, match=r"there is no model sslam_bass, did you mean sslam_base\?"):
        sslam_lightning.create_model("sslam_bass")
    with pytest.raises(ValueError, match="data2vec2_waveform_base reads waveforms: leave features out"):
        sslam_lightning.create_model("data2vec2_waveform_base", features={"mean": -3.0})
    with pytest.raises(TypeError, match="unexpected keyword argument 'dept'"):
        sslam_lightning.create_model("eat_tiny", dept=2)
