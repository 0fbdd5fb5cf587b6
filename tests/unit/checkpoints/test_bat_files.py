"""BAT's public files (D10): its trainer's, the released weights, and fine-tuned models."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sslam_lightning.checkpoints import convert, load_classifier, load_encoder, read_weights
from sslam_lightning.checkpoints.formats.bat import Arguments
from sslam_lightning.checkpoints.keys.config import HONORED
from sslam_lightning.checkpoints.keys.tables import BAT_KEYS
from sslam_lightning.features import LogMels
from sslam_lightning.inference.export import export_model
from sslam_lightning.inference.loading import from_pretrained
from sslam_lightning.layers import mel_major_positions
from sslam_lightning.losses import TeacherTargets
from sslam_lightning.models import (
    ClassificationHead,
    Encoder,
    EncoderConfig,
    TransformerDecoder,
    TransformerDecoderConfig,
)
from sslam_lightning.training import FinetuneModule, PretrainModule

ENCODER = EncoderConfig(dim=16, depth=2, num_heads=2, gated_attention=True, max_time_patches=5, weight_init="xavier")
DECODER = TransformerDecoderConfig(
    dim=12,
    depth=1,
    num_heads=3,
    positions="learned",
    max_tokens=40,
    input_norm=False,
    norm_eps=1e-6,
    gated_attention=True,
    projection_bias=False,
    weight_init="xavier",
    output_projection=True,
)
ARGS = {"dim": 16, "depth": 2, "num_heads": 2, "decoder_heads": 3, "decoder_dim": 12, "time_frame_size": 80, "n_mels": 128}
_NAMES = {"cls_token": "cls_token", "front_end.proj": "patch_embed.proj", "input_norm": "pre_norm"}
_DECODER_NAMES = {"positions": "pos_embed", "input_proj": "in_proj", "output_proj": "out_proj"}
# All of ssl.yaml, of the downstream configurations, and what the public scripts add to them.
PUBLIC = """
    device num_workers compile state_save_path save_interval dataset_dir sr n_fft hop_length n_mels time_frame_size
    patch_size dim depth num_heads mlp_ratio decoder_depth decoder_heads decoder_mlp_ratio decoder_dim batch_size
    optimization_steps lr min_lr lr_warmup_steps weight_decay adam_beta1 adam_beta2 ema_warmup_steps ema_decay_start
    ema_decay_end
    grad_accumulation_steps clip_norm mask_ratio num_views config num_time_patches num_freq_patches
    train_num_workers val_num_workers test_num_workers save_model task frame_length frame_shift f_min model_name
    pretrained_path vit_size head use_cls_in_head num_prototypes num_vqt frame_wise_task head_norm head_dropout finetune
    train_batch_size val_batch_size val_frequency test_frequency test_batch_size lr_layer_decay grad_clip_norm
    use_asymmetric_loss dropout path_dropout_rate label_smoothing lasso_weight augment use_mixup mixup_chance mixup_beta
    mixup_hard_label use_random_gain use_color_noise color_noise_chance use_time_roll use_tf_mask freq_mask_param
    time_mask_param tf_mask_repeats num_classes patch_stride_ms num_temporal_patches
"""


def public_names(state: dict[str, Tensor], names: dict[str, str]) -> dict[str, Tensor]:
    public = {}
    for name, value in state.items():
        start = next((start for start in names if name.startswith(start)), "")
        public[names.get(start, "") + name.removeprefix(start)] = value.clone()
    return public


def parts(seed: int = 0) -> tuple[Encoder, TransformerDecoder, dict[str, dict[str, Tensor]]]:
    torch.manual_seed(seed)
    encoder, decoder = Encoder(ENCODER), TransformerDecoder(DECODER, 16)
    table = {"pos_embed": mel_major_positions(5, 8, 16)[None]}
    theirs = {"encoder": public_names(encoder.state_dict(), _NAMES) | table}
    theirs["decoder"] = public_names(decoder.state_dict(), _DECODER_NAMES)
    for name in ("mask_token", "pos_embed"):
        theirs["decoder"][name] = theirs["decoder"][name].reshape(1, -1, 12)
    theirs["ema_encoder"] = {key: value + (key != "pos_embed") for key, value in theirs["encoder"].items()}
    return encoder, decoder, theirs


def trained(**changes: Any) -> dict[str, Any]:
    return {**parts()[2], "optimized_steps": 3, "args": {**ARGS, **changes}}


def save(content: Any, tmp_path: Path) -> Path:
    torch.save(content, tmp_path / "bat.pt")
    return tmp_path / "bat.pt"


def assert_same(state: dict[str, Tensor], module: torch.nn.Module) -> None:
    assert state.keys() == module.state_dict().keys()
    assert all(torch.equal(state[key], value) for key, value in module.state_dict().items())


def test_the_trainers_file_comes_back_whole(tmp_path: Path) -> None:
    """D10."""
    encoder, decoder, theirs = parts()
    weights = read_weights(save(trained(lr=5e-4, compile=True, clip_norm=None), tmp_path))
    assert weights.encoder == ENCODER
    assert weights.decoder_config == DECODER
    assert not weights.unused
    assert_same(weights.student, encoder)
    assert_same(weights.decoder, decoder)
    assert torch.equal(weights.teacher["cls_token"], theirs["ema_encoder"]["cls_token"])
    features = {"kind": "decibel", "num_frames": 80, "num_mels": 128, "patch_frames": 16, "sample_rate_hz": 16000}
    assert (weights.features, weights.resampler) == (features, "soxr")


@pytest.mark.parametrize("form", ["bare", "state_dict", "lightning"])
def test_released_weights_without_settings(form: str, tmp_path: Path) -> None:
    """D10: their sizes are those of a public model, the table of positions says how many columns it has."""
    size = {"dim": 384, "num_heads": 6, "depth": 1, "mlp_ratio": 0.1}
    encoder = Encoder(EncoderConfig(**size, gated_attention=True))
    state = public_names(encoder.state_dict(), _NAMES) | {"pos_embed": mel_major_positions(64, 8, 384)[None].half()}
    state = {f"{who}.encoder.{key}": value.clone() for who in ("student", "teacher") for key, value in state.items()}
    lightning = {"pytorch-lightning_version": "2.5"} if form == "lightning" else {}
    weights = read_weights(save(state if form == "bare" else {"state_dict": state, **lightning}, tmp_path))
    assert (weights.encoder.num_heads, weights.encoder.max_time_patches) == (6, 64)
    assert weights.features["num_frames"] == 1024
    assert_same(weights.student, encoder)
    assert weights.teacher


def test_a_fine_tuned_model(tmp_path: Path) -> None:
    """D10: as the public script writes it, its weights in a tuple."""
    encoder, _, theirs = parts()
    head = ClassificationHead(16, 3, "mean")
    state = theirs["encoder"] | {
        f"head.{theirs}.{name}": value
        for ours, theirs in (("norm", "ln"), ("linear", "fc"))
        for name, value in getattr(head, ours).state_dict().items()
    }
    args = {**ARGS, "task": "esc50", "head": "linear", "head_norm": True, "use_cls_in_head": False, "model_name": "BAT"}
    args |= {"finetune": True, "dataset_dir": Path("ESC-50"), "head_dropout": 0.2}
    content = {"history": defaultdict(list), "test_metrics": {"accuracy": 9.0}, "args": args, "state": (state,)}
    weights = read_weights(save(content, tmp_path))
    assert (weights.multi_label, weights.pooling, weights.unused) == (False, "mean", ())
    classifier = load_classifier(tmp_path / "bat.pt")
    assert_same(classifier.encoder.state_dict(), encoder)
    assert_same(classifier.head.state_dict(), head)
    for name, value in (("head", "cgp"), ("head_norm", False), ("frame_wise_task", True), ("model_name", "EAT")):
        save({**content, "args": {**args, name: value}}, tmp_path)
        with pytest.raises(ValueError, match=rf"bat\.pt: args\.{name} is {value!r}, only .* is computed here"):
            read_weights(tmp_path / "bat.pt")


def test_every_way_in(tmp_path: Path) -> None:
    """D10: `from_pretrained`, `init_from` of all modules, and `sslam convert`."""
    encoder, decoder, _ = parts()
    file = save(trained(), tmp_path)
    assert from_pretrained(file).features == LogMels(num_frames=80, kind="decibel")
    with pytest.raises(ValueError, match="extremes must be clip outside of training: leave it out, got 'padded_row'"):
        from_pretrained(file, features={"extremes": "padded_row"})
    features = LogMels(num_frames=80, kind="decibel", extremes="padded_row")
    pretraining = PretrainModule(ENCODER, features=features, decoder=DECODER, targets=TeacherTargets(2))
    pretraining.load_pretrained(str(file))
    assert_same(pretraining.student.state_dict(), encoder)
    assert_same(pretraining.decoder.state_dict(), decoder)
    fine_tuning = FinetuneModule(ENCODER, features, 3)
    fine_tuning.load_pretrained(str(file))
    assert_same(fine_tuning.encoder.state_dict(), encoder)
    convert(file, tmp_path / "ours", "safetensors")
    before, after = read_weights(file), read_weights(tmp_path / "ours")
    assert (after.encoder, after.decoder_config, after.features) == (before.encoder, before.decoder_config, before.features)
    assert_same(load_encoder(tmp_path / "ours").state_dict(), encoder)
    for form in ("fairseq", "eat_hf"):
        with pytest.raises(ValueError, match="knows no gated_attention True: convert to safetensors"):
            convert(file, tmp_path / "theirs", form)  # type: ignore[arg-type]


def test_embeddings_do_not_depend_on_the_batch_and_an_export_agrees(tmp_path: Path) -> None:
    """D10: of sounds shorter and longer than what the encoder takes at a time, at any rate."""
    model = from_pretrained(save(trained(), tmp_path))
    lengths = torch.tensor([9000, 2600, 40000])  # one, one and four pieces of 0.8 s
    waveforms = torch.nn.utils.rnn.pad_sequence([torch.randn(length) * 0.1 for length in lengths], batch_first=True)
    together = model.encode(waveforms, lengths)
    for row, length in enumerate(lengths):
        alone = model(waveforms[row, :length], 16000)
        torch.testing.assert_close(together.clip[row], alone.clip, atol=1e-5, rtol=0)
        columns = len(alone.patches)
        assert columns == -(-(1 + int(length) // 160) // 16)
        torch.testing.assert_close(together.patches[row, :columns], alone.patches, atol=1e-5, rtol=0)
    assert len(model(torch.randn(2, 8000), 8000).timestamps) == 7
    assert all(
        each.largest_difference < 1e-4 for each in export_model(model, tmp_path / "a.pt2", "torch-export", "encoder")
    )


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"n_fft": 512}, r"args\.n_fft is 512, only 1024 is computed here"),
        ({"hop_length": 320}, r"args\.hop_length is 320, only 160 is computed here"),
        ({"sr": 32000}, r"args\.n_fft is 1024, only 2048 is computed here"),
        ({"f_min": 20}, r"args\.f_min is 20, only 0 is computed here"),
        ({"layer_norm_first": True}, r"args\.layer_norm_first is no configuration key of the public code"),
        (
            {"decoder_head": 3},
            r"args\.decoder_head is no configuration key .*, did you mean decoder_heads\?",
        ),
        ({"dim": 32}, r"args\.dim is 32, its weights are those of 16"),
        ({"depth": 3}, r"args\.depth is 3, its weights are those of 2"),
        ({"patch_size": 8}, r"args\.patch_size is 8, its weights are those of 16"),
        ({"mlp_ratio": 2}, r"args\.mlp_ratio is 2.0, its weights are those of 4"),
        ({"decoder_depth": 2}, r"args\.decoder_depth is 2, its weights are those of 1"),
        ({"n_mels": 64}, r"encoder\.pos_embed is not the fixed sine-cosine table of 4 patches along the mels"),
        ({"n_mels": 100}, r"args\.n_mels must be a multiple of patch_size, got 100 and 16"),
        ({"num_heads": 3}, r"multiple of the number of heads, got dim 16 and 3 heads"),
        ({"num_heads": "two"}, r"args\.num_heads must be a whole number, got 'two'"),
        ({"num_heads": None}, r"it has no args\.num_heads, and its width 16 is none of the public models'"),
        ({"time_frame_size": 70}, r"num_frames must be a positive multiple of patch_frames = 16, or null, got 70"),
        ({"time_frame_size": 10**9}, r"num_frames must be"),
    ],
)
def test_arguments_that_are_not_computed_are_named(args: dict[str, Any], message: str, tmp_path: Path) -> None:
    """D10's kind: a setting of a file is computed or refused by its name."""
    with pytest.raises(ValueError, match=message) as raised:
        read_weights(save(trained(**args), tmp_path))
    assert "bat.pt" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("part", "name", "value", "message"),
    [
        ("encoder", "blocks.0.ls1.s", torch.ones(16), r"has the weight encoder\.blocks\.0\.ls1\.s, which no BAT model"),
        ("ema_encoder", "blocks.0.ls1.s", torch.ones(16), r"its teacher has the weight encoder\.blocks\.0\.ls1\.s"),
        ("encoder", "pos_embed", torch.zeros(1, 40, 16), r"encoder\.pos_embed is not the fixed sine-cosine table"),
        ("encoder", "pos_embed", torch.full((1, 40, 16), torch.nan), r"encoder\.pos_embed is not the fixed"),
        ("encoder", "pos_embed", torch.zeros(0), r"encoder\.pos_embed is not the fixed"),
        ("encoder", "pos_embed", None, r"is not a BAT checkpoint: .*is missing"),
        ("encoder", "patch_embed.proj.weight", torch.zeros(16, 1, 16, 8), r"patches of 1 x 16 x 8, not for squares"),
        ("encoder", "patch_embed.proj.weight", torch.zeros(3), r"bat\.pt"),
        ("encoder", "blocks.1.attn.gate.bias", None, r"student\.blocks\.1\.attn\.gate\.bias is missing"),
        ("encoder", "blocks.0.norm1.bias", torch.full((16,), torch.inf), r"norm1\.bias holds values that are not finite"),
        ("decoder", "mask_token", torch.zeros(()), r"bat\.pt"),
        ("decoder", "out_proj.bias", torch.zeros(16), r"has the weight decoder\.out_proj\.bias, which no BAT model"),
        ("decoder", "pos_embed", torch.zeros(1, 40, 4), r"bat\.pt.*positions has shape"),
        ("decoder", "pos_embed", None, r"is not a BAT checkpoint: 'positions' is missing"),
        ("args", "", ["a"], r"args must be a table of settings, got list"),
    ],
)
def test_weights_that_are_not_computed_are_named(part, name, value, message, tmp_path: Path) -> None:
    content = trained()
    if part == "args":
        content["args"] = value
    elif value is None:
        del content[part][name]
    else:
        content[part][name] = value
    with pytest.raises(ValueError, match=message) as raised:
        read_weights(save(content, tmp_path))
    assert "\n" not in str(raised.value)


def test_every_public_argument_is_on_exactly_one_list() -> None:
    """D10: the closed list; the importer reads those that are honored."""
    assert set(BAT_KEYS) == set(PUBLIC.split())
    assert {key for key, rule in BAT_KEYS.items() if rule == HONORED} == {field.name for field in fields(Arguments)}
