"""Weights of transformers are taken as data, from the folder that is named, for the model that they were made for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save_file

from sslam_lightning.checkpoints.formats.lightning import CONFIG_KEY
from sslam_lightning.checkpoints.formats.transformers import read_pretrained, write_transformers

transformers = pytest.importorskip("transformers")

SIZE = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


def vit(**settings: Any) -> Any:
    torch.manual_seed(len(settings))
    return transformers.ViTModel(transformers.ViTConfig(**{**SIZE, "image_size": 16, "patch_size": 4, **settings}))


def test_an_adapter_that_names_other_weights_is_refused(tmp_path: Path) -> None:
    model = vit()
    model.save_pretrained(tmp_path)
    state = read_pretrained(tmp_path, vit())
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(state[name], weight) for name, weight in model.state_dict().items())
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/model"}')
    with pytest.raises(ValueError, match=r"holds an adapter_config\.json, which names other weights"):
        read_pretrained(tmp_path, vit())


def test_a_checkpoint_that_names_kernels_of_others_is_not_written(tmp_path: Path) -> None:
    model = vit()
    config = {**model.config.to_dict(), "attn_implementation": "kernels-community/flash-attn"}
    states = {f"student.model.{name}": weight for name, weight in model.state_dict().items()}
    torch.save({CONFIG_KEY: config, "state_dict": states}, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match=r"a\.ckpt: transformers makes no model .*\(attn_implementation must be one of"):
        write_transformers(tmp_path / "a.ckpt", tmp_path / "plain")
    assert not (tmp_path / "plain").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_attention_heads": 4}, r"has num_attention_heads = 4, the configured encoder 2: it is another model"),
        ({"hidden_act": "relu"}, r"has hidden_act = relu, the configured encoder gelu"),
        ({"layer_norm_eps": 1e-5}, r"has layer_norm_eps = 1e-05, the configured encoder 1e-12"),
    ],
)
def test_weights_of_another_model_of_the_same_shapes_are_refused(settings: Any, message: str, tmp_path: Path) -> None:
    vit(**settings).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        read_pretrained(tmp_path, vit())


def test_another_type_of_model_is_named_first(tmp_path: Path) -> None:
    transformers.BeitModel(transformers.BeitConfig(**SIZE, image_size=16, patch_size=4)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"has model_type = beit, the configured encoder vit"):
        read_pretrained(tmp_path, vit())


def test_how_a_model_was_trained_makes_no_other_model_of_it(tmp_path: Path) -> None:
    model = vit(hidden_dropout_prob=0.3, initializer_range=0.5, num_labels=7)
    model.save_pretrained(tmp_path)
    state = read_pretrained(tmp_path, vit())
    assert all(torch.equal(state[name], weight) for name, weight in model.state_dict().items())


def test_files_that_were_cut_off_or_changed_are_named_in_one_line(tmp_path: Path) -> None:
    vit().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    whole = file.read_bytes()
    state = load(whole)
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cannot be opened as a model in safetensors: .") as told:
        read_pretrained(tmp_path, vit())
    assert "\n" not in str(told.value)
    save_file({**state, "layernorm.weight": torch.ones(8)}, file, {"format": "pt"})
    with pytest.raises(ValueError, match=r": layernorm\.weight has shape \(8,\), the model expects \(16,\)$"):
        read_pretrained(tmp_path, vit())
