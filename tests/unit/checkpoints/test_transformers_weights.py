"""Models of transformers in checkpoints of ours and in folders: what is read, and what is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sslam_lightning.checkpoints import load_classifier, load_encoder, read_model, read_weights
from sslam_lightning.checkpoints.formats.transformers import is_transformers_folder
from sslam_lightning.losses import TeacherTargets
from sslam_lightning.models import EncoderConfig, HuggingFaceConfig
from sslam_lightning.training import Data2Vec1Module, FinetuneModule

transformers = pytest.importorskip("transformers")

SIZE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
VIT = {**SIZE, "image_size": 16, "patch_size": 4}
CONFIG = HuggingFaceConfig("vit", VIT)


def saved(module: Any, path: Path, **changes: Any) -> Path:
    """What the trainer would save of a module, without a trainer."""
    checkpoint = {
        "state_dict": module.state_dict(),
        "hyper_parameters": dict(module.hparams),
        "pytorch-lightning_version": "2",
    }
    module.on_save_checkpoint(checkpoint)
    torch.save({**checkpoint, **changes}, path)
    return path


@pytest.fixture
def pretrained(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    return saved(Data2Vec1Module(CONFIG, targets=TeacherTargets(1, "block")), tmp_path / "pretrained.ckpt")


@pytest.fixture
def tuned(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    module = FinetuneModule(
        hugging_face=CONFIG, features=None, num_classes=2, multi_label=False, class_names=["up", "down"], pooling="mean"
    )
    return saved(module, tmp_path / "tuned.ckpt")


def test_a_pretrained_checkpoint(pretrained: Path) -> None:
    weights, content = read_model(pretrained), torch.load(pretrained, weights_only=True)["state_dict"]
    assert weights.encoder.settings["model_type"] == "vit"
    assert (weights.head, weights.class_names, weights.encoder.token_module) == (None, (), None)
    assert set(weights.unused) == {
        *("student.mask_token", "teacher.encoder.mask_token", "regression_head.weight", "regression_head.bias")
    }
    for part, prefix in (("student", "student."), ("teacher", "teacher.encoder.")):
        found = load_encoder(pretrained, part).state_dict()
        assert found
        assert all(torch.equal(tensor, content[f"{prefix}{name}"]) for name, tensor in found.items())
    with pytest.raises(ValueError, match=r"holds a model of Hugging Face transformers: sslam convert --to transformers"):
        read_weights(pretrained)
    with pytest.raises(ValueError, match=r"pretrained\.ckpt holds no classification head"):
        load_classifier(pretrained)


def test_a_tuned_checkpoint(tuned: Path) -> None:
    weights = read_model(tuned)
    assert (weights.class_names, weights.multi_label, weights.pooling, weights.unused) == (
        ("up", "down"),
        False,
        "mean",
        (),
    )
    module = FinetuneModule.load_from_checkpoint(tuned, map_location="cpu", weights_only=True).eval()
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(load_classifier(tuned)(images), module(images))
    with pytest.raises(ValueError, match=r"tuned\.ckpt holds no teacher"):
        load_encoder(tuned, "teacher")
    # Pre-training goes on from it with both models.
    again = Data2Vec1Module(CONFIG, targets=TeacherTargets(1, "block"))
    again.load_pretrained(str(tuned))
    for model in (again.student.model, again.teacher.encoder.model):
        assert all(torch.equal(w, weights.student[f"model.{name}"]) for name, w in model.state_dict().items())


def test_a_folder_with_a_head_of_another_task(tmp_path: Path) -> None:
    torch.manual_seed(2)
    model = transformers.ViTForImageClassification(transformers.ViTConfig(**VIT)).eval()
    model.save_pretrained(tmp_path / "vit")
    encoder, images = load_encoder(tmp_path / "vit"), torch.randn(2, 3, 16, 16)
    again = load_encoder(tmp_path / "vit").state_dict()  # its pooler, which the folder lacks and nothing asks, is no other
    assert all(torch.equal(weight, again[name]) for name, weight in encoder.state_dict().items())
    expected = model.vit(images).last_hidden_state[:, 1:]
    torch.testing.assert_close(encoder(images).tokens, expected)


def folder_with(folder: Path, **settings: Any) -> Path:
    transformers.ViTModel(transformers.ViTConfig(**VIT)).save_pretrained(folder)
    told = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(told | settings))
    return folder


def test_code_and_pickles_of_a_folder_are_never_opened(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "a", auto_map={"AutoConfig": "hostile.Config", "AutoModel": "hostile.Model"})
    (folder / "hostile.py").write_text(f"open({str(tmp_path / 'was run')!r}, 'w').close()")
    assert load_encoder(folder).dim == 16
    (folder / "model.safetensors").rename(folder / "elsewhere")
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"cannot be opened as a model in safetensors"):
        read_model(folder)
    for settings, message in (
        ({"model_type": "unheard"}, r"transformers makes no model of its configuration"),
        ({"attn_implementation": "a/b"}, r"attn_implementation must be one of eager"),
        ({"odd": [{"class_path": "hostile.Thing"}]}, r"no model of transformers has a setting class_path, got hostile"),
        ({"intermediate_size": 2**40}, r"it describes \d+ parameters, the files have \d+ bytes"),
        ({"hidden_size": 12}, r"has shape \(1, 1, 16\), the model expects \(1, 1, 12\)"),
    ):
        with pytest.raises(ValueError, match=message) as raised:
            read_model(folder_with(tmp_path / "b", **settings))
        assert len(str(raised.value).splitlines()) == 1
    assert not (tmp_path / "was run").exists()


def test_which_folders_are_transformers_own(tmp_path: Path) -> None:
    assert not is_transformers_folder(tmp_path)
    for content, own in (
        ('{"model_type": "vit"}', True),
        ('{"model_type": "eat"}', False),
        ('{"format": "sslam_lightning", "model_type": "vit"}', False),
        ('{"model_type": ["vit"]}', False),
        ("[", False),
    ):
        (tmp_path / "config.json").write_text(content)
        assert is_transformers_folder(tmp_path) is own, content


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"transformers_config": ["vit"]}, r"holds no model of transformers"),
        ({"transformers_config": {"model_type": 3}}, r"holds no model of transformers"),
        ({"transformers_config": {"model_type": "unheard"}}, r"transformers makes no model of its configuration"),
        ({"transformers_config": {"model_type": "vit", **VIT, "hidden_size": 20}}, r"student\.model\.\S+ has shape"),
        ({"transformers_config": {"model_type": "vit", **VIT, "hidden_size": 2**40}}, r"student\.model\.|makes no model"),
        ({"hyper_parameters": [1]}, r"hyper_parameters must be a table of settings, got list"),
        ({"hyper_parameters": {"encoder": {"token_module": 3}}}, r"token_module must be a text, got 3"),
        ({"hyper_parameters": {"encoder": {"token_module": "no.part"}}}, r"a ViTModel has no part no\.part"),
        ({"hyper_parameters": {"resampler": "sox"}}, r"resampler must be one of 'torchaudio', 'soxr', got 'sox'"),
        ({"state_dict": {}}, r"student\.model\.\S+ is missing"),
    ],
)
def test_a_checkpoint_that_is_not_what_it_says(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    module = Data2Vec1Module(CONFIG, targets=TeacherTargets(1, "block"))
    path = saved(module, tmp_path / "a.ckpt", **changes)
    with pytest.raises(ValueError, match=message) as raised:
        load_encoder(path)
    assert len(str(raised.value).splitlines()) == 1
    assert str(path) in str(raised.value)


def test_weights_that_are_no_numbers(tmp_path: Path) -> None:
    module = Data2Vec1Module(CONFIG, targets=TeacherTargets(1, "block"))
    with torch.no_grad():
        module.student.model.layernorm.bias[0] = torch.nan
    with pytest.raises(ValueError, match=r"student\.model\.layernorm\.bias holds values that are not finite"):
        load_encoder(saved(module, tmp_path / "a.ckpt"))


def test_encoders_of_another_kind_or_size(pretrained: Path) -> None:
    weights = read_model(pretrained)
    weights.check_architecture(HuggingFaceConfig("vit", {**VIT, "hidden_dropout_prob": 0.3}))
    for config, message in (
        (EncoderConfig(), r"holds a vit of transformers, the configured encoder is one of this project"),
        (HuggingFaceConfig("vit", {**VIT, "patch_size": 8}), r"has patch_size = 4, the configured encoder 8"),
        (HuggingFaceConfig("deit", VIT), r"has model_type = vit, the configured encoder deit"),
    ):
        with pytest.raises(ValueError, match=message):
            weights.check_architecture(config)
