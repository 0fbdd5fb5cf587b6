"""What the public code cannot load, or would compute otherwise, is not written under fairseq's names."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from fairseq_names import randomized
from tiny_weights import DECODER, ENCODER, FEATURES, finetuned, pretrained, state

from sslam_lightning.checkpoints import Weights, read_weights
from sslam_lightning.checkpoints.formats.fairseq_export import to_fairseq
from sslam_lightning.checkpoints.keys.config import check_keys
from sslam_lightning.checkpoints.keys.tables import DATA2VEC2_KEYS, EAT_FINETUNING_KEYS, TASK_KEYS
from sslam_lightning.checkpoints.write import write_weights
from sslam_lightning.models import ConvDecoder, Encoder, Teacher
from sslam_lightning.models.teacher import TeacherParts


def with_decoder(**settings: Any) -> Weights:
    config = replace(DECODER, **settings)
    return pretrained()._replace(decoder_config=config, decoder=state(ConvDecoder(config, 16)))


def with_features(**settings: Any) -> Weights:
    return pretrained()._replace(features={**FEATURES, **settings})


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (pretrained(replace(ENCODER, patch_size=8)), r"encoder\.patch_size is 8, fairseq's EAT has 16"),
        (pretrained(replace(ENCODER, num_mels=64)), r"encoder\.num_mels is 64, fairseq's EAT has 128"),
        (pretrained(replace(ENCODER, norm="pre")), r"have no norm 'pre'"),
        (pretrained(replace(ENCODER, cls_token=False)), r"knows no cls_token False"),
        (pretrained(replace(ENCODER, input_norm=False)), r"knows no input_norm False"),
        (pretrained(replace(ENCODER, alibi="learned")), r"knows no alibi learned"),
        (with_decoder(projection_depth=2), r"decoder\.projection_depth is 2, fairseq's EAT has 1"),
        (with_decoder(dimensions=1), r"decoder\.dimensions is 1, fairseq's EAT has 2"),
        (with_features(mean=-5.0), r"features\.mean and std are -5\.0 and 5\.359, fairseq's EAT has -4\.268 and 4\.569, "),
        (with_features(kind="decibel"), r"features\.kind is decibel, fairseq's EAT has kaldi"),
        (with_features(sample_rate_hz=32000), r"features\.sample_rate_hz is 32000, fairseq's EAT has 16000"),
    ],
)
def test_another_model_is_refused_by_the_name_of_its_setting(weights: Weights, message: str) -> None:
    """D9."""
    with pytest.raises(ValueError, match=rf"^a model: .*{message}.*"):
        to_fairseq(weights)


@pytest.mark.parametrize("weights", [pretrained(), pretrained(replace(ENCODER, prenet_depth=1)), finetuned()])
def test_every_key_that_is_written_is_one_of_the_public_code(weights: Weights) -> None:
    cfg = to_fairseq(weights)[0]["cfg"]
    check_keys(cfg["task"], TASK_KEYS[cfg["task"]["_name"]], "cfg.task", "training")
    if weights.head:
        check_keys(cfg["model"], EAT_FINETUNING_KEYS, "cfg.model", "training")
        cfg = cfg["model"]["pretrained_model_args"]
    check_keys(cfg["model"], DATA2VEC2_KEYS, "cfg.model", "training")


@pytest.mark.parametrize(("mlp_ratio", "hidden"), [(61 / 28, 61), (2.6, 73), (115 / 28, 115)])
def test_the_public_code_rounds_widths_down(mlp_ratio: float, hidden: int) -> None:
    """D9: it builds int(dim * mlp_ratio) channels, here the nearest number."""
    weights = pretrained(replace(ENCODER, dim=28, mlp_ratio=mlp_ratio))
    assert len(weights.student["blocks.0.mlp.fc1.bias"]) == hidden
    model = to_fairseq(weights)[0]["cfg"]["model"]
    assert int(model["embed_dim"] * model["mlp_ratio"]) == hidden


@pytest.mark.parametrize("dim", [16, 768])
def test_a_read_out_is_written_where_the_public_one_is_as_wide(dim: int) -> None:
    """D9: EAT's gives a third of the encoder's width, and is there where its loss is."""
    weights = pretrained(replace(ENCODER, dim=dim, depth=1, mlp_ratio=0.1))
    content, left_out = to_fairseq(weights)
    written = "recon_proj.weight" in content["model"]
    assert written is (dim // 3 == 256) is (content["cfg"]["model"]["recon_loss"] > 0)
    assert left_out == (() if written else ("reconstruction",))


@pytest.mark.parametrize("parts", ["encoder", "context", "blocks"])
def test_a_teacher_of_fewer_parts_is_the_public_one(tmp_path, parts: TeacherParts) -> None:
    """D9: the configuration says what the teacher has, and a list of blocks alone counts them itself."""
    teacher = randomized(Teacher(Encoder(ENCODER), parts).encoder).state_dict()
    weights = pretrained()._replace(teacher=dict(teacher), reconstruction=None)
    content, _ = to_fairseq(weights)
    model = content["cfg"]["model"]
    assert model["ema_encoder_only"] is (parts == "blocks")
    assert model["modalities"]["image"]["ema_local_encoder"] is (parts == "encoder")
    assert ("0.norm1.weight" in content["model"]["_ema"]) is (parts == "blocks")
    write_weights(weights, tmp_path / "a.pt", "fairseq")
    back = read_weights(tmp_path / "a.pt").teacher
    assert back is not None
    assert back.keys() == teacher.keys()
    assert all(torch.equal(back[name], value) for name, value in teacher.items())


def test_what_is_not_there_is_not_built() -> None:
    """D9: the public code builds a teacher and a decoder, unless it is told not to."""
    content, _ = to_fairseq(pretrained()._replace(teacher=None, decoder=None, decoder_config=None, reconstruction=None))
    model = content["cfg"]["model"]
    assert model["skip_ema"] is True
    assert model["modalities"]["image"]["decoder"] is None
    assert not any("decoder" in name or name == "_ema" for name in content["model"])


@pytest.mark.parametrize("mean_and_std", [(-4.268, 4.569), (-6.627, 5.359), (-6.846, 5.565)])
@pytest.mark.parametrize("multi_label", [True, False])
def test_log_mels_and_labels_survive_without_our_section(tmp_path, mean_and_std, multi_label: bool) -> None:
    """D9: by the public switches alone."""
    mean, std = mean_and_std
    weights = finetuned()._replace(features={**FEATURES, "mean": mean, "std": std}, multi_label=multi_label)
    content, _ = to_fairseq(weights)
    del content["sslam_lightning"]
    torch.save(content, tmp_path / "a.pt")
    back = read_weights(tmp_path / "a.pt")
    assert (back.features, back.multi_label, back.class_names) == (weights.features, multi_label, weights.class_names)
