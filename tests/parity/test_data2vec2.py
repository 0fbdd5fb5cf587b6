"""data2vec 2.0 on waveforms, images and text: losses, gradients, collapse signs and features."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from data2vec_step import (
    assert_same_features,
    assert_same_step,
    public_cfg,
    public_weights,
    recorded_noise,
    recorded_step,
    without_randomness,
)
from reference_data import case_names

_CASES = case_names("data2vec2_*")
_WITH_ALL_SECTIONS = case_names("data2vec2_*_all_sections*")


@pytest.mark.parametrize("name", _CASES)
def test_losses_gradients_and_features_equal_the_public_ones(name, reference, monkeypatch):
    """D2: with three sections in the configuration, of which one is the model's, too."""
    arrays, case = reference.arrays(name), reference.case(name)
    module, batch = recorded_step(case, arrays, without_randomness(public_weights(case, name)))
    assert_same_step(case, module, batch, monkeypatch)
    assert_same_features(arrays, module, batch)


@pytest.mark.parametrize("name", _WITH_ALL_SECTIONS)
def test_the_decoder_is_that_of_the_trained_modality(name, reference, monkeypatch):
    """D2: noise, dropout and residual of its own section; the loss with the noise, where it was recorded."""
    arrays, case = reference.arrays(name), reference.case(name)
    weights, said = public_weights(case, name), case["must_be_read"]
    decoder = weights.decoder_config
    assert decoder.noise_std == said["mask_noise_std"]
    assert decoder.residual is said["decoder"]["decoder_residual"]
    assert decoder.input_dropout == said["decoder"]["input_dropout"]
    if "with_noise" not in case:
        return
    noisy = without_randomness(weights)
    noisy = noisy._replace(decoder_config=replace(noisy.decoder_config, noise_std=decoder.noise_std))
    module, batch = recorded_step(case, arrays, noisy)
    monkeypatch.setattr(module, "log", lambda *_, **__: None)
    monkeypatch.setattr(type(module), "current_epoch", 0)
    with recorded_noise(torch.tensor(arrays["mask_noise"]) / decoder.noise_std, monkeypatch):
        total = module.training_step(batch, 0)
    assert total.item() == pytest.approx(case["with_noise"]["total"], rel=1e-4)


@pytest.mark.parametrize("name", case_names("data2vec2_*"))
def test_settings_of_other_modalities_play_no_part(name, reference):
    """D2: whatever they say, and whether they are there."""
    case = reference.case(name)
    cfg, own = public_cfg(case), case["modality"].lower()
    expected = public_weights(case, name, {**cfg, "modalities": {own: cfg["modalities"][own]}})
    strange = {
        "image": {"alibi_dims": 7, "mask_noise_std": 9.0, "decoder": {"decoder_residual": None}},
        "audio": {"conv_pos_pre_ln": True, "feature_encoder_spec": "nonsense", "mask_noise_std": 9.0},
        "text": {"no_scale_embedding": False, "dropout": 0.9, "decoder": {"input_dropout": 0.8, "decoder_residual": True}},
    }
    found = public_weights(case, name, {**cfg, "modalities": {**strange, own: cfg["modalities"][own]}})
    assert (found.encoder, found.decoder_config) == (expected.encoder, expected.decoder_config)
