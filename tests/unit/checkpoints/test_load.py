"""From a checkpoint to a module in one call."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_weights import ENCODER, finetuned, pretrained

import sslam_lightning
from sslam_lightning.checkpoints.write import write_weights
from sslam_lightning.models import ClassificationHead, Classifier, Encoder


@pytest.fixture
def model(tmp_path) -> Path:
    write_weights(pretrained(), tmp_path / "model", "safetensors")
    return tmp_path / "model"


@pytest.mark.parametrize("part", ["student", "teacher"])
def test_an_encoder(tmp_path, part) -> None:
    weights = pretrained()
    write_weights(weights, tmp_path / "model", "safetensors")
    encoder = sslam_lightning.load_encoder(tmp_path / "model", part)
    assert (encoder.config, encoder.training) == (ENCODER, False)
    expected = Encoder(ENCODER).eval()
    expected.load_state_dict(weights.part(part))
    for num_frames in (32, 160):  # of any length
        log_mels = torch.randn(2, num_frames, 128)
        ours, theirs = encoder(log_mels), expected(log_mels)
        assert torch.equal(ours.cls, theirs.cls)
        assert torch.equal(ours.tokens, theirs.tokens)


def test_the_student_is_the_default(model: Path) -> None:
    student, teacher = (sslam_lightning.load_encoder(model, part).cls_token for part in ("student", "teacher"))
    assert torch.equal(sslam_lightning.load_encoder(model).cls_token, student)
    assert not torch.equal(student, teacher)


@pytest.mark.parametrize("pooling", ["cls", "mean", "linear_softmax"])
def test_a_classifier(tmp_path, pooling) -> None:
    weights = finetuned()._replace(pooling=pooling)
    write_weights(weights, tmp_path / "model", "safetensors")
    classifier = sslam_lightning.load_classifier(str(tmp_path / "model"))
    assert isinstance(classifier, Classifier)
    assert not any(module.training for module in classifier.modules())
    encoder, head = Encoder(ENCODER).eval(), ClassificationHead(16, 3, pooling)
    encoder.load_state_dict(weights.student)
    head.load_state_dict(weights.head)
    log_mels = torch.randn(2, 48, 128)
    assert torch.equal(classifier(log_mels), head(encoder(log_mels)))


def test_half_precision_is_loaded_as_single(tmp_path) -> None:
    weights = pretrained()
    half = {name: value.half() for name, value in weights.student.items()}
    write_weights(weights._replace(student=half, teacher=None), tmp_path / "model", "safetensors")
    encoder = sslam_lightning.load_encoder(tmp_path / "model")
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, half[name].float()), name


def test_it_does_not_depend_on_the_file_any_more(model: Path) -> None:
    encoder = sslam_lightning.load_encoder(model)
    before = encoder.cls_token.clone()
    with (model / "model.safetensors").open("r+b") as file:
        file.write(bytes((model / "model.safetensors").stat().st_size))
    assert torch.equal(encoder.cls_token, before)
    with torch.no_grad():
        encoder.cls_token.zero_()  # it is the caller's


def test_what_is_not_there(tmp_path, model: Path) -> None:
    with pytest.raises(ValueError, match="model holds no classification head: it is a pre-trained model"):
        sslam_lightning.load_classifier(model)
    write_weights(finetuned(), tmp_path / "tagger", "safetensors")
    with pytest.raises(ValueError, match="tagger holds no teacher"):
        sslam_lightning.load_encoder(tmp_path / "tagger", "teacher")
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*nothing\.pt"):
        sslam_lightning.load_encoder(tmp_path / "nothing.pt")
