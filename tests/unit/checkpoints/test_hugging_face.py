"""The layout of the released models: every key is there, is read, and is refused where it says something else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_weights import FEATURES, assert_same_bits, finetuned, pretrained

from sslam_lightning.checkpoints import Weights, load_classifier, read_weights
from sslam_lightning.checkpoints.write import write_weights
from sslam_lightning.layers import sincos_positions
from sslam_lightning.models import Encoder

LAYERS = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
BLOCK = [f"{name}.{kind}" for name in LAYERS for kind in ("weight", "bias")]


def written(weights: Weights, folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    write_weights(weights, folder, "eat_hf")
    return json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors")


def rewritten(folder: Path, config: dict[str, Any], state: dict[str, torch.Tensor]) -> Weights:
    (folder / "config.json").write_text(json.dumps(config))
    save_file(state, folder / "model.safetensors")
    return read_weights(folder)


def test_every_key_of_a_classifier(tmp_path) -> None:
    config, state = written(finetuned(), tmp_path / "model")
    public = {
        "model_type": "eat",
        "embed_dim": 16,
        "depth": 2,
        "num_heads": 2,
        "patch_size": 16,
        "stride": 16,
        "in_chans": 1,
        "mel_bins": 128,
        "max_length": 768,
        "num_classes": 3,
        "model_variant": "finetune",
        "mlp_ratio": 2.5,
        "qkv_bias": True,
        "layer_norm_first": False,
        "norm_eps": 1e-5,
        "img_size": [32, 128],
        "id2label": {"0": "dog", "1": "rain, heavy", "2": "crow"},
        "problem_type": "single_label_classification",
    }
    assert config | public == config
    expected = {
        "model.extra_tokens",
        "model.local_encoder.proj.weight",
        "model.local_encoder.proj.bias",
        "model.fixed_positional_encoder.positions",
        *(f"model.{name}.{kind}" for name in ("pre_norm", "fc_norm", "head") for kind in ("weight", "bias")),
        *(f"model.blocks.{block}.{name}" for block in range(2) for name in BLOCK),
    }
    assert state.keys() == expected
    table = state["model.fixed_positional_encoder.positions"]
    assert torch.equal(table, sincos_positions(768, 8, 16)[None])


def test_an_encoder_alone(tmp_path) -> None:
    config, state = written(pretrained(), tmp_path / "model")
    assert config["model_variant"] == "pretrain"
    assert not any("head" in name or "fc_norm" in name for name in state)


def test_longer_clips_have_a_longer_table(tmp_path) -> None:
    config, state = written(pretrained()._replace(features={**FEATURES, "num_frames": 16000}), tmp_path / "model")
    assert config["max_length"] == 1000
    assert state["model.fixed_positional_encoder.positions"].shape == (1, 8000, 16)


def test_a_folder_that_others_wrote(tmp_path) -> None:
    """Without our section: what the public keys say, and what they do not."""
    original = finetuned()
    config, state = written(original, tmp_path / "model")
    del config["sslam_lightning"]
    weights = rewritten(tmp_path / "model", config, state)
    assert_same_bits(weights, original, "encoder", "features", "head_norm_eps")
    assert weights.encoder.dropout == 0.0
    assert weights.features == {"num_frames": 32, "num_mels": 128, "patch_frames": 16}
    log_mels = torch.randn(2, 48, 128)
    classifier = load_classifier(tmp_path / "model")
    expected = Encoder(weights.encoder).eval()
    expected.load_state_dict(original.student)
    torch.testing.assert_close(classifier.encoder(log_mels).cls, expected(log_mels).cls)
    # A released configuration has keys of transformers, and says nothing of labels and positions.
    for name in ("id2label", "label2id", "problem_type", "img_size"):
        del config[name]
    del state["model.fixed_positional_encoder.positions"]
    bookkeeping = {"auto_map": {"AutoModel": "modeling_eat.EATModel"}, "transformers_version": "4.51.3", "drop_rate": 0.0}
    weights = rewritten(tmp_path / "model", {**config, **bookkeeping, "architectures": ["EATModel"]}, state)
    assert (weights.features, weights.class_names, weights.multi_label, weights.unused) == (None, (), True, ())


@pytest.mark.parametrize(("img_size", "num_frames"), [([32, 128], 32), ([35, 128], 32)])
def test_frames_that_fill_no_patch_are_cut(tmp_path, img_size: list[int], num_frames: int) -> None:
    config, state = written(pretrained(), tmp_path / "model")
    del config["sslam_lightning"]
    features = rewritten(tmp_path / "model", {**config, "img_size": img_size}, state).features
    assert features == {"num_frames": num_frames, "num_mels": 128, "patch_frames": 16}


@pytest.mark.parametrize("img_size", [[3, 128], [-16, 128], ["32", 128]])
def test_frames_that_are_none(tmp_path, img_size: list) -> None:
    config, state = written(pretrained(), tmp_path / "model")
    del config["sslam_lightning"]
    with pytest.raises(ValueError, match=r"model: config\.json: img_size"):
        rewritten(tmp_path / "model", {**config, "img_size": img_size}, state)


def test_labels_that_transformers_makes_up_are_none(tmp_path) -> None:
    config, state = written(finetuned(), tmp_path / "model")
    del config["sslam_lightning"]
    config["id2label"] = {str(number): f"LABEL_{number}" for number in range(3)}
    assert rewritten(tmp_path / "model", config, state).class_names == ()


def test_the_norm_of_a_head_has_an_epsilon_of_its_own(tmp_path) -> None:
    """D12: 1e-5 in this layout, ours where our section says so; the other norms have norm_eps."""
    config, state = written(finetuned(), tmp_path / "model")
    assert load_classifier(tmp_path / "model").head.norm.eps == 1e-6
    del config["sslam_lightning"]
    weights = rewritten(tmp_path / "model", {**config, "norm_eps": 1e-3}, state)
    classifier = load_classifier(tmp_path / "model")
    epsilons = {name: module.eps for name, module in classifier.named_modules() if isinstance(module, torch.nn.LayerNorm)}
    assert epsilons.pop("head.norm") == weights.head_norm_eps == 1e-5
    assert set(epsilons.values()) == {1e-3}
    for form in ("safetensors", "eat_hf", "fairseq"):
        write_weights(weights._replace(features=None), tmp_path / form, form)  # type: ignore[arg-type]
        assert load_classifier(tmp_path / form).head.norm.eps == 1e-5


def test_a_key_that_is_not_known_is_refused(tmp_path) -> None:
    config, state = written(pretrained(), tmp_path / "model")
    with pytest.raises(
        ValueError, match=r"model: config\.json\.norm_epsilon is no configuration key .*did you mean norm_eps\?"
    ):
        rewritten(tmp_path / "model", {**config, "norm_epsilon": 1e-5}, state)


def test_every_weight_is_used_or_listed(tmp_path) -> None:
    config, state = written(pretrained(), tmp_path / "model")
    state |= {"model.head.weight": torch.zeros(3, 16), "model.decoder.weight": torch.zeros(1), "extra": torch.zeros(1)}
    weights = rewritten(tmp_path / "model", config, state)
    assert weights.head is None
    assert sorted(weights.unused) == ["extra", "model.decoder.weight", "model.head.weight"]


@pytest.mark.parametrize("name", ["embed_dim", "depth", "num_heads", "model_variant"])
def test_what_has_no_default_is_asked_for(tmp_path, name: str) -> None:
    config, state = written(pretrained(), tmp_path / "model")
    del config[name]
    with pytest.raises(ValueError, match=rf"its config\.json has no {name}"):
        rewritten(tmp_path / "model", config, state)


@pytest.mark.parametrize(("name", "value"), [("norm_affine", False), ("fixed_positions", False), ("qkv_bias", False)])
def test_another_computation_is_refused(tmp_path, name: str, value: bool) -> None:
    config, state = written(pretrained(), tmp_path / "model")
    with pytest.raises(ValueError, match=rf"config\.json\.{name} is {value}, only {not value} is computed here$"):
        rewritten(tmp_path / "model", {**config, name: value}, state)


def test_a_classifier_without_its_head(tmp_path) -> None:
    config, state = written(finetuned(), tmp_path / "model")
    del state["model.head.weight"]
    with pytest.raises(ValueError, match="model holds no classification head"):
        rewritten(tmp_path / "model", config, state)


def test_a_missing_weight_is_named(tmp_path) -> None:
    config, state = written(pretrained(), tmp_path / "model")
    del state["model.blocks.1.mlp.fc2.bias"]
    with pytest.raises(ValueError, match=r"student\.blocks\.1\.mlp\.fc2\.bias is missing"):
        rewritten(tmp_path / "model", config, state)


def test_a_single_file_without_its_configuration(tmp_path) -> None:
    written(pretrained(), tmp_path / "model")
    with pytest.raises(ValueError, match="weights without their configuration: name the folder that holds both"):
        read_weights(tmp_path / "model" / "model.safetensors")
