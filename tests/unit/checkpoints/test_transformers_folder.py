"""Weights of transformers are taken as data, from the folder that is named, for the model that they were made for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sslam_lightning.checkpoints.lightning import CONFIG_KEY
from sslam_lightning.checkpoints.transformers_folder import read_pretrained, write_transformers

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
