"""Data2Vec1Module starts from models that are configured alike, and says what it took."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sslam_lightning.losses import TeacherTargets
from sslam_lightning.models import HuggingFaceConfig
from sslam_lightning.training import Data2Vec1Module

pytest.importorskip("transformers")

SIZE = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines that starts say."""
    lines: list[str] = []
    monkeypatch.setattr("sslam_lightning.training.load_pretrained.rank_zero_info", lines.append)
    return lines


def module(**settings: Any) -> Data2Vec1Module:
    encoder = HuggingFaceConfig("vit", {**SIZE, "image_size": 16, "patch_size": 4, **settings})
    return Data2Vec1Module(encoder, targets=TeacherTargets(1, "block"))


def saved(made: Data2Vec1Module, path: Path) -> str:
    checkpoint: dict[str, Any] = {"hyper_parameters": {}, "state_dict": made.state_dict()}
    made.on_save_checkpoint(checkpoint)
    torch.save({name: checkpoint[name] for name in ("state_dict", "transformers_config")}, path)
    return str(path)


def test_a_checkpoint_of_a_model_configured_alike(tmp_path: Path, told: list[str]) -> None:
    torch.manual_seed(0)
    other, started = module(hidden_dropout_prob=0.2), module()
    path = saved(other, tmp_path / "a.ckpt")
    started.load_pretrained(path)
    for part in ("student.model", "teacher.encoder.model"):
        theirs, ours = other.get_submodule(part).state_dict(), started.get_submodule(part).state_dict()
        assert all(torch.equal(theirs[name], ours[name]) for name in theirs)
    assert not torch.equal(started.regression_head.weight, other.regression_head.weight)
    left = "student.mask_token, teacher.encoder.mask_token, regression_head.weight, regression_head.bias"
    assert told == [f"{path}: took student, teacher; left {left}; starts fresh mask_token, regression_head"]


def test_a_checkpoint_of_another_model_of_the_same_shapes_is_refused(tmp_path: Path) -> None:
    path = saved(module(num_attention_heads=8, hidden_act="relu"), tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match=r"a\.ckpt has hidden_act = relu, the configured encoder gelu: it is"):
        module().load_pretrained(path)


def test_a_folder_is_told_too(tmp_path: Path, told: list[str]) -> None:
    other = module()
    other.student.model.save_pretrained(tmp_path / "vit")
    module().load_pretrained(str(tmp_path / "vit"))
    assert told == [f"{tmp_path / 'vit'}: took student, teacher; starts fresh mask_token, regression_head"]
