from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from fairseq_names import IMAGE, encoder_state, head_state, pretrained, randomized

from sslam_lightning.checkpoints import Weights, from_fairseq, load_state_dict_strict, read_weights
from sslam_lightning.checkpoints.formats.fairseq import model_section
from sslam_lightning.models import ClassificationHead, ConvDecoder, ConvDecoderConfig, Encoder, EncoderConfig

MODEL_CFG = {"num_heads": 2, "norm_eps": 1e-6, "layer_norm_first": False}


def assert_same(ours: dict[str, torch.Tensor] | None, module: torch.nn.Module) -> None:
    assert ours is not None
    expected = module.state_dict()
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(ours[name], value), name


@pytest.fixture
def config(encoder_config: EncoderConfig) -> EncoderConfig:
    return replace(encoder_config, num_mels=128, patch_size=16, prenet_depth=1)  # as every file


@pytest.mark.parametrize("order", ["post", "pre_data2vec2"])
def test_every_part_of_a_pretrained_model_is_found(
    config: EncoderConfig, decoder_config: ConvDecoderConfig, order: str
) -> None:
    modules, state = pretrained(replace(config, norm=order), decoder_config)
    names = set(state)
    weights = from_fairseq(state, {**MODEL_CFG, "layer_norm_first": order != "post"}, "a file")
    assert_same(weights.student, modules["student"])
    assert_same(weights.teacher, modules["teacher"])
    assert_same(weights.decoder, modules["decoder"])
    assert_same(weights.reconstruction, modules["reconstruction"])
    assert weights.head is None
    assert weights.unused == ()
    assert weights.source == "a file"
    assert set(state) == names  # what was handed in is left as it was


def test_configurations_are_read_off_the_shapes(config: EncoderConfig) -> None:
    config = replace(config, dim=24, depth=3, num_heads=4, mlp_ratio=2.5, prenet_depth=2, norm_eps=1e-5)
    decoder = ConvDecoderConfig(dim=32, depth=3, kernel_size=5, groups=8, noise_std=0.02)
    _, state = pretrained(config, decoder)
    theirs = {"num_heads": 4, "norm_eps": 1e-5, "modalities": {"image": {"mask_noise_std": 0.02}}}
    weights = from_fairseq(state, theirs, "a file")
    assert weights.encoder == config
    assert weights.decoder_config == decoder


@pytest.mark.parametrize("zero", [False, True])
def test_what_the_clip_token_begins_with(config: EncoderConfig, decoder_config: ConvDecoderConfig, zero: bool) -> None:
    """D11: zeros by default in the public code, N(0, 1) in EAT's and data2vec 2.0's recipes for images."""
    _, state = pretrained(config, decoder_config)
    image = {"num_extra_tokens": 1, "init_extra_token_zero": zero}
    weights = from_fairseq(state, {"num_heads": config.num_heads, "modalities": {"image": image}}, "a file")
    assert weights.encoder == replace(config, zero_cls_token=zero)
    assert bool(Encoder(weights.encoder).cls_token.any()) is not zero


def test_what_the_configuration_leaves_out(config: EncoderConfig, decoder_config: ConvDecoderConfig) -> None:
    _, state = pretrained(config, decoder_config)
    weights = from_fairseq(state, {"num_heads": 2}, "a file")
    assert weights.encoder == config
    assert weights.decoder_config == decoder_config
    assert from_fairseq(state, {"num_heads": 2, "layer_norm_first": True}, "a file").encoder.norm == "pre_data2vec2"


def test_a_model_without_prenet_decoder_and_teacher(config: EncoderConfig) -> None:
    encoder = randomized(Encoder(replace(config, prenet_depth=0)))
    weights = from_fairseq(encoder_state(encoder), MODEL_CFG, "a file")  # type: ignore[arg-type]
    assert_same(weights.student, encoder)
    assert weights.encoder.prenet_depth == 0
    assert (weights.teacher, weights.decoder, weights.decoder_config, weights.reconstruction) == (None, None, None, None)


def test_a_teacher_that_lies_beside_the_state(config: EncoderConfig, decoder_config: ConvDecoderConfig) -> None:
    modules, state = pretrained(config, decoder_config)
    teacher = state.pop("_ema")
    assert from_fairseq(state, MODEL_CFG, "a file").teacher is None
    assert_same(from_fairseq(state, MODEL_CFG, "a file", teacher).teacher, modules["teacher"])


def test_a_finetuned_model_wraps_the_pretrained_one(config: EncoderConfig) -> None:
    encoder, head = randomized(Encoder(config)), randomized(ClassificationHead(16, 5))
    wrapped = {f"model.{name}": value for name, value in encoder_state(encoder).items()}  # type: ignore[arg-type]
    weights = from_fairseq({**wrapped, **head_state(head)}, MODEL_CFG, "a file")  # type: ignore[arg-type]
    assert_same(weights.student, encoder)
    assert_same(weights.head, head)
    assert weights.unused == ()


def test_unknown_keys_are_listed(config: EncoderConfig, decoder_config: ConvDecoderConfig) -> None:
    _, state = pretrained(config, decoder_config)
    state = {**state, "center": torch.zeros(1, 16), "model.extra.weight": torch.zeros(2)}
    state["_ema"] = {**state["_ema"], "surplus": torch.zeros(2)}
    weights = from_fairseq(state, MODEL_CFG, "a file")
    assert weights.unused == ("center", "model.extra.weight", "_ema.surplus")


@pytest.mark.parametrize("hidden_dim", [61, 115])  # 28 * (61 / 28) is less than 61
def test_odd_widths_survive_being_a_ratio(
    config: EncoderConfig, decoder_config: ConvDecoderConfig, hidden_dim: int
) -> None:
    config = replace(config, dim=28, mlp_ratio=hidden_dim / 28)
    modules, state = pretrained(config, replace(decoder_config, dim=28))
    weights = from_fairseq(state, MODEL_CFG, "a file")
    assert modules["student"].blocks[0].mlp.fc1.out_features == hidden_dim  # type: ignore[index,union-attr]
    load_state_dict_strict(Encoder(weights.encoder), weights.student, "student", weights.source)


def test_a_weight_that_is_there_twice_is_listed(config: EncoderConfig) -> None:
    encoder = randomized(Encoder(config))
    state = encoder_state(encoder)  # type: ignore[arg-type]
    weights = from_fairseq({**state, "model.blocks.0.norm1.bias": torch.zeros(16)}, MODEL_CFG, "a file")
    assert_same(weights.student, encoder)
    assert weights.unused == ("model.blocks.0.norm1.bias",)


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        (f"{IMAGE}.extra_tokens", r"modality_encoders\.IMAGE\.extra_tokens is missing"),
        (f"{IMAGE}.local_encoder.proj.weight", r"front_end\.proj\.weight"),
        ("blocks.0.mlp.fc1.weight", r"blocks\.0\.mlp\.fc1\.weight"),
    ],
)
def test_other_models_are_refused(
    config: EncoderConfig, decoder_config: ConvDecoderConfig, missing: str, named: str
) -> None:
    _, state = pretrained(config, decoder_config)
    del state[missing]
    with pytest.raises(ValueError, match=rf"a file is not an EAT, SSLAM or data2vec 2.0 checkpoint: .*{named}"):
        from_fairseq(state, MODEL_CFG, "a file")


def test_the_models_section_of_a_configuration() -> None:
    assert model_section({"model": MODEL_CFG}, "a file") == (MODEL_CFG, "cfg.model")
    nested = {"model": {"model_path": "x", "pretrained_model_args": {"model": MODEL_CFG}}}
    assert model_section(nested, "a file") == (MODEL_CFG, "cfg.model.pretrained_model_args.model")


@pytest.mark.parametrize("cfg", [{}, {"model": None}, {"model": {"depth": 12}}])
def test_a_configuration_without_a_model(cfg: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"a file: its configuration has no cfg\.model\.num_heads"):
        model_section(cfg, "a file")


def test_a_file_of_the_public_trainer(tmp_path, config: EncoderConfig, decoder_config: ConvDecoderConfig) -> None:
    modules, state = pretrained(config, decoder_config)
    path = tmp_path / "checkpoint_last.pt"
    torch.save({"model": state, "cfg": {"model": MODEL_CFG}, "args": None}, path)
    weights = read_weights(path)
    assert weights.source == str(path)
    assert weights.encoder == config
    student, decoder = Encoder(weights.encoder), ConvDecoder(weights.decoder_config or decoder_config, 16)
    load_state_dict_strict(student, weights.student, "student", weights.source)
    load_state_dict_strict(decoder, weights.decoder or {}, "decoder", weights.source)
    log_mels = torch.randn(2, 16, 128)
    torch.testing.assert_close(student(log_mels).cls, modules["student"](log_mels).cls)
    assert_same(weights.decoder, decoder)


OTHER: dict[str, Any] = {
    "num_mels": 32,
    "patch_size": 8,
    "dim": 32,
    "depth": 3,
    "prenet_depth": 1,
    "num_heads": 4,
    "mlp_ratio": 4.0,
    "norm": "pre",
    "norm_eps": 1e-5,
}


@pytest.mark.parametrize("name", list(OTHER))
def test_another_architecture_is_refused_by_name(encoder_config: EncoderConfig, name: str) -> None:
    weights = Weights("a file", encoder_config, {})
    ours, theirs = replace(encoder_config, **{name: OTHER[name]}), getattr(encoder_config, name)
    message = rf"^a file: its encoder\.{name} is {theirs}, the configured one is {OTHER[name]}$"
    with pytest.raises(ValueError, match=message):
        weights.check_architecture(ours)


def test_the_first_difference_is_named(encoder_config: EncoderConfig) -> None:
    with pytest.raises(ValueError, match=r"its encoder\.num_mels is 16, the configured one is 32"):
        Weights("a file", encoder_config, {}).check_architecture(replace(encoder_config, **OTHER))


def test_switches_of_training_may_differ(encoder_config: EncoderConfig) -> None:
    weights = Weights("a file", encoder_config, {})
    weights.check_architecture(replace(encoder_config, drop_path_end=0.1, dropout=0.1, layer_drop=0.2))
