from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import yaml

from sslam_lightning.evaluation.model import Candidate, all_layers
from sslam_lightning.evaluation.protocols.finetune import Detection
from sslam_lightning.models import EncoderConfig, EncoderInput

TINY = {"dim": 16, "depth": 2, "num_heads": 2}


def recipe(folder, name="tiny.yaml", encoder=None, **features):
    path = folder / name
    path.write_text(yaml.safe_dump({"model": {"init_args": {"encoder": encoder or TINY, "features": features or None}}}))
    return str(path)


def test_random_weights_are_a_function_of_the_seed(tmp_path):
    source = recipe(tmp_path, num_frames=112)
    one, again, other = (Candidate(source, seed=seed).open() for seed in (3, 3, 4))
    assert one.encoder.config == EncoderConfig(**TINY)
    assert one.digest == again.digest != other.digest
    assert not one.encoder.training
    assert one.features.num_frames == one.num_frames == 112


def test_recipes_are_layered(tmp_path):
    first = recipe(tmp_path, "a.yaml", {**TINY, "dim": 32, "gated_attention": True}, kind="decibel", num_frames=1024)
    second = recipe(tmp_path, "b.yaml", {"dim": 16}, num_frames=64)
    model = Candidate(f"{first},{second}").open()
    assert model.encoder.config == EncoderConfig(**TINY, gated_attention=True)
    assert (model.features.kind, model.features.num_frames) == ("decibel", 64)


@pytest.mark.parametrize(
    ("told", "clips", "ours", "wanted"),
    [
        ({}, {"num_frames": 512, "mean": -6.0, "std": 5.0}, {}, (512, -6.0, 5.0, "kaldi")),
        ({"mean": -1.0}, {"num_frames": 512}, {}, (512, -1.0, 4.569, "kaldi")),
        (
            {"num_frames": 64},
            {"num_frames": 512, "mean": -6.0},
            {"num_frames": 256, "mean": -2.0},
            (256, -2.0, 4.569, "kaldi"),
        ),
        ({"kind": "decibel"}, {"num_frames": 512, "mean": -6.0}, {}, (512, -4.268, 4.569, "decibel")),
    ],
)
def test_whose_features_count(told, clips, ours, wanted, tmp_path):
    model = Candidate(recipe(tmp_path, **told), features=ours, clip_features=clips).open()
    assert (model.features.num_frames, model.features.mean, model.features.std, model.features.kind) == wanted


def test_front_ends_with_a_normalization_of_their_own_keep_their_statistics(tmp_path):
    front_end = {
        "class_path": "sslam_lightning.models.SpectrogramTokensConfig",
        "init_args": {"token_frames": 2, "token_mels": 128},
    }
    source = recipe(tmp_path, encoder={**TINY, "front_end": front_end, "cls_token": False}, mean=0.0, std=0.5)
    model = Candidate(source, clip_features={"num_frames": 514, "mean": -6.0}).open()
    assert (model.features.mean, model.features.patch_frames, model.num_frames) == (0.0, 2, 514)
    front_end = {"class_path": "sslam_lightning.models.WaveformConfig", "init_args": {"layers": [[16, 10, 5], [16, 3, 2]]}}
    model = Candidate(recipe(tmp_path, encoder={**TINY, "front_end": front_end}), clip_features={"num_frames": 50}).open()
    assert (model.features, model.num_frames, model.sample_rate_hz, model.min_samples) == (None, 50, 16000, 20)
    with pytest.raises(ValueError, match="a model of waveforms is told num_frames alone, leave mean out"):
        Candidate(recipe(tmp_path, encoder={**TINY, "front_end": front_end}), features={"mean": 1.0}).open()


def test_a_configuration_for_training_has_its_drop_path(tmp_path):
    model = Candidate(recipe(tmp_path, encoder={**TINY, "dropout": 0.1})).open()
    config = model.settings_for_training(0.2)["encoder"]
    assert (config["drop_path_start"], config["drop_path_end"], config["dropout"]) == (0.0, 0.2, 0.1)


def test_what_cannot_be_opened(tmp_path):
    torch.save({}, tmp_path / "x.ckpt")
    for name, content, message in (
        ("a.yaml", None, r"no recipe at .*a\.yaml"),
        ("b.yaml", "a: [", r"b\.yaml is no YAML file: "),
        ("c.yaml", "trainer: {}", r"c\.yaml has no `model`, so it is no recipe of an encoder"),
        (
            "d.yaml",
            "model: {init_args: {encoder: {dim: wide}}}",
            r"d\.yaml: model\.encoder\.dim must be a whole number, got 'wide'",
        ),
        ("x.ckpt", None, r"x\.ckpt is neither a fairseq checkpoint"),
        ("y.ckpt", None, r"no checkpoint at .*y\.ckpt"),
    ):
        if content:
            (tmp_path / name).write_text(content)
        with pytest.raises((ValueError, OSError), match=message):
            Candidate(str(tmp_path / name)).open()
    with pytest.raises(ValueError, match=r"^features: std must be positive, got -1\.0"):
        Candidate(recipe(tmp_path), features={"std": -1.0}).open()


def test_a_model_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.ASTConfig(**size, max_length=48, patch_size=16, time_stride=10, frequency_stride=10)
    transformers.ASTModel(config).save_pretrained(tmp_path / "ast")
    opened = Candidate(str(tmp_path / "ast"), clip_features={"num_frames": 512, "mean": -6.0, "std": 5.0}).open()
    assert (opened.num_frames, opened.features.mean, opened.features.num_mels) == (48, -6.0, 128)  # it takes one length
    with pytest.raises(ValueError, match="this model takes num_frames 48 alone, leave it out, got 512"):
        Candidate(str(tmp_path / "ast"), features={"num_frames": 512}).open()
    (told,) = opened.settings_for_training(0.2).items()
    assert (told[0], told[1]["model"], told[1]["settings"]["hidden_size"]) == (
        *("hugging_face", "audio-spectrogram-transformer", 16),
    )
    layers = all_layers(opened.encoder, EncoderInput(torch.randn(2, 48, 128)))
    assert layers.tokens.shape == (2, 2, 1 + 4 * 12, 16)
    torch.testing.assert_close(layers.tokens[:, :, 0], layers.tokens[:, :, 1:].mean(dim=2))
    with pytest.raises(ValueError, match=r"ast is a model of transformers; Detection takes our own encoder, on log-mels"):
        Detection().run(SimpleNamespace(metric="event F1", model=opened))
