"""Fine-tuning and both stages of pre-training start from a checkpoint in any form."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sslam_lightning.checkpoints import Weights
from sslam_lightning.checkpoints.write import write_weights
from sslam_lightning.features import LogMels
from sslam_lightning.losses import ReconstructionLoss, TeacherTargets
from sslam_lightning.models import (
    ClassificationHead,
    ConvDecoder,
    ConvDecoderConfig,
    Encoder,
    EncoderConfig,
    SpectrogramTokensConfig,
    TransformerDecoder,
    TransformerDecoderConfig,
)
from sslam_lightning.training import FinetuneModule, PretrainModule

ENCODER = EncoderConfig(dim=16, depth=2, num_heads=2, mlp_ratio=2.0)
DECODER = ConvDecoderConfig(dim=16, depth=2, groups=4)
Decoder = ConvDecoderConfig | TransformerDecoderConfig
FORMS = ("safetensors", "eat_hf", "fairseq")


def state(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: torch.randn_like(value) for name, value in module.state_dict().items()}


def pretrained(encoder: EncoderConfig = ENCODER) -> Weights:
    return Weights(
        "a model",
        encoder,
        state(Encoder(encoder)),
        state(Encoder(encoder)),
        DECODER,
        state(ConvDecoder(DECODER, encoder.dim)),
        state(torch.nn.Linear(encoder.dim, 256)),
        features={"num_frames": 32, "num_mels": 128, "patch_frames": 16},
    )


def pretrain_module(encoder: EncoderConfig = ENCODER, **settings: Any) -> PretrainModule:
    features = LogMels(num_frames=64, num_mels=encoder.num_mels, patch_frames=encoder.patch_size)  # a longer clip
    settings = {"decoder": DECODER, "masks_per_clip": 2, "targets": TeacherTargets(2), **settings}
    return PretrainModule(encoder, features=features, **settings)


def finetune_module(encoder: EncoderConfig = ENCODER, num_classes: int = 3, **settings: Any) -> FinetuneModule:
    features = LogMels(num_frames=64, num_mels=encoder.num_mels, patch_frames=encoder.patch_size)
    return FinetuneModule(encoder, features, num_classes, **settings)


def assert_same(module: torch.nn.Module, expected: dict[str, torch.Tensor] | None) -> None:
    assert expected is not None
    assert module.state_dict().keys() == expected.keys()
    for name, value in module.state_dict().items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("form", FORMS)
def test_pretraining_takes_what_the_file_has(tmp_path, form: Any) -> None:
    weights = pretrained()
    write_weights(weights, tmp_path / "model", form)
    module = pretrain_module(reconstruction=ReconstructionLoss())
    before = {name: value.clone() for name, value in module.decoder.state_dict().items()}
    module.load_pretrained(str(tmp_path / "model"))
    assert_same(module.student, weights.student)
    alone = form == "eat_hf"  # its form holds one encoder, which the teacher then starts as, too
    assert_same(module.teacher.encoder, weights.student if alone else weights.teacher)
    assert_same(module.decoder, before if alone else weights.decoder)
    assert module.reconstruction_head is not None
    kept = torch.equal(module.reconstruction_head.bias, weights.reconstruction["bias"])  # type: ignore[index]
    assert kept is (form == "safetensors")  # the public code's read-out has a third of the encoder's width
    assert torch.isfinite(module.student(torch.randn(1, 64, 128)).tokens).all()  # clips were half as long


@pytest.mark.parametrize("part", ["student", "teacher"])
@pytest.mark.parametrize("form", ["safetensors", "fairseq"])
def test_finetuning_takes_one_encoder(tmp_path, form: Any, part: Any) -> None:
    weights = pretrained()
    write_weights(weights, tmp_path / "model", form)
    module = finetune_module(replace(ENCODER, drop_path_end=0.2), init_encoder=part)
    module.load_pretrained(str(tmp_path / "model"))
    assert_same(module.encoder, weights.part(part))
    expected = Encoder(ENCODER).eval()
    expected.load_state_dict(weights.part(part))
    log_mels = torch.randn(2, 64, 128)
    assert torch.equal(module.eval().encoder(log_mels).cls, expected(log_mels).cls)


def test_a_hub_id(tmp_path, monkeypatch) -> None:
    weights = pretrained()
    write_weights(weights, tmp_path / "fetched", "eat_hf")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "sslam_lightning.checkpoints.read.download", lambda hub_id: Path("fetched") if hub_id == "a/b" else None
    )
    module = finetune_module(init_from="a/b")
    module.load_pretrained("a/b")
    assert_same(module.encoder, weights.student)


@pytest.mark.parametrize("form", FORMS)
def test_another_number_of_classes_starts_a_fresh_head(tmp_path, caplog, form: Any) -> None:
    weights = pretrained()._replace(
        teacher=None, decoder_config=None, decoder=None, reconstruction=None, head=state(ClassificationHead(16, 3))
    )
    write_weights(weights, tmp_path / "model", form)
    same, other = finetune_module(num_classes=3), finetune_module(num_classes=5)
    fresh = {name: value.clone() for name, value in other.head.state_dict().items()}
    with caplog.at_level(logging.INFO, "lightning.pytorch.utilities.rank_zero"):
        same.load_pretrained(str(tmp_path / "model"))
        assert caplog.messages == [f"{tmp_path / 'model'}: took student, head"]
        caplog.clear()
        other.load_pretrained(str(tmp_path / "model"))
    assert_same(same.head, weights.head)
    assert_same(other.head, fresh)
    assert_same(other.encoder, weights.student)
    path = tmp_path / "model"
    assert caplog.messages == [
        f"{path}: took student; left head; starts fresh head for 5 classes (the file's is for 3 classes)"
    ]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"num_mels": 64}, "its encoder.num_mels is 128, the configured one is 64"),
        ({"patch_size": 8}, "its encoder.patch_size is 16, the configured one is 8"),
        ({"dim": 32}, "its encoder.dim is 16, the configured one is 32"),
        ({"depth": 3}, "its encoder.depth is 2, the configured one is 3"),
        ({"num_heads": 4}, "its encoder.num_heads is 2, the configured one is 4"),
    ],
)
@pytest.mark.parametrize("make", [pretrain_module, finetune_module])
@pytest.mark.parametrize("form", FORMS)
def test_another_size_is_refused_by_name(tmp_path, form: Any, make: Any, other: dict, message: str) -> None:
    write_weights(pretrained(), tmp_path / "model", form)
    with pytest.raises(ValueError, match=rf"model: {message}$"):
        make(replace(ENCODER, **other)).load_pretrained(str(tmp_path / "model"))


BLOCKS = TransformerDecoderConfig(dim=16, depth=1, num_heads=2)


@pytest.mark.parametrize(
    ("trained", "configured", "message"),
    [
        (DECODER, replace(DECODER, residual=False), r"decoder\.residual is True, the configured one is False"),
        (DECODER, replace(DECODER, kernel_size=5), r"decoder\.kernel_size is 3, the configured one is 5"),
        (BLOCKS, replace(BLOCKS, num_heads=4), r"decoder\.num_heads is 2, the configured one is 4"),
        (BLOCKS, replace(BLOCKS, norm_eps=1e-3), r"decoder\.norm_eps is 1e-05, the configured one is 0\.001"),
        (BLOCKS, DECODER, r"decoder is made of transformer blocks, the configured one of convolutions"),
        (DECODER, BLOCKS, r"decoder is made of convolutions, the configured one of transformer blocks"),
    ],
)
def test_pretraining_refuses_another_decoder_by_name(tmp_path, trained: Decoder, configured: Decoder, message: str) -> None:
    """Most of these weights would fit and mean something else."""
    of_blocks = isinstance(trained, TransformerDecoderConfig)
    weights = pretrained()._replace(decoder_config=trained, decoder=state(trained.build(16)))
    write_weights(weights, tmp_path / "model", "safetensors")
    with pytest.raises(ValueError, match=rf"model: its {message}$"):
        pretrain_module(decoder=configured).load_pretrained(str(tmp_path / "model"))
    noisier = {"noise_std": 0.5, "input_dropout": 0.1} if not of_blocks else {"dropout": 0.1}  # switches of training
    pretrain_module(decoder=replace(trained, **noisier)).load_pretrained(str(tmp_path / "model"))


def test_mae_ast_refuses_another_decoder_by_name(tmp_path) -> None:
    config = replace(ENCODER, front_end=SpectrogramTokensConfig(4, 4, 16), cls_token=False)
    features = LogMels(num_frames=32, num_mels=16, patch_frames=4)
    weights = Weights("", config, Encoder(config).state_dict(), None, BLOCKS, state(TransformerDecoder(BLOCKS, 16)))
    write_weights(weights, tmp_path / "model", "safetensors")
    settings = {
        "features": features,
        "ema": None,
        "regression": None,
        "utterance": None,
        "reconstruction": ReconstructionLoss(),
    }
    PretrainModule(config, decoder=BLOCKS, **settings).load_pretrained(str(tmp_path / "model"))
    with pytest.raises(ValueError, match=r"model: its decoder\.num_heads is 2, the configured one is 4$"):
        PretrainModule(config, decoder=replace(BLOCKS, num_heads=4), **settings).load_pretrained(str(tmp_path / "model"))


def test_another_number_of_channels_is_refused_by_name(tmp_path) -> None:
    write_weights(pretrained(), tmp_path / "model.pt", "fairseq")
    content = torch.load(tmp_path / "model.pt", weights_only=True)
    name = "modality_encoders.IMAGE.local_encoder.proj.weight"
    content["model"][name] = content["model"][name].repeat(1, 3, 1, 1)
    torch.save(content, tmp_path / "color.pt")
    with pytest.raises(
        ValueError, match=r"color\.pt: its encoder\.front_end is ImageConfig\(patch_size=16, in_channels=3\)"
    ):
        finetune_module().load_pretrained(str(tmp_path / "color.pt"))
