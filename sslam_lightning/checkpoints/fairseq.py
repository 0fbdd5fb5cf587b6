"""The names of fairseq's data2vec 2.0 (waveforms, images, text), EAT and SSLAM checkpoints."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor

from sslam_lightning.checkpoints.weights import State, Weights
from sslam_lightning.models import (
    ConvPositionsConfig,
    DecoderConfig,
    EncoderConfig,
    FrontEndConfig,
    ImageConfig,
    TextConfig,
    WaveformConfig,
)
from sslam_lightning.models.waveform import Layer

_MODALITY = r"modality_encoders\.(?:IMAGE|AUDIO|TEXT)"
# (their name, our part, our name): the first pattern that matches the whole key wins.
_RENAMES = [
    (rf"{_MODALITY}\.extra_tokens", "encoder", "clip_token"),
    (rf"{_MODALITY}\.alibi_scale", "encoder", "alibi.scale"),
    (rf"{_MODALITY}\.local_encoder\.(proj\..*)", "encoder", r"front_end.\1"),
    (rf"{_MODALITY}\.local_encoder\.conv_layers\.(\d+)\.0\.(.*)", "encoder", r"front_end.convs.\1.\2"),
    (rf"{_MODALITY}\.local_encoder\.conv_layers\.(\d+)\.2\.1\.(.*)", "encoder", r"front_end.norms.\1.\2"),
    (rf"{_MODALITY}\.project_features\.1\.(.*)", "encoder", r"front_end.proj_norm.\1"),
    (rf"{_MODALITY}\.project_features\.2\.(.*)", "encoder", r"front_end.proj.\1"),
    (rf"{_MODALITY}\.local_encoder\.embed_tokens\.(.*)", "encoder", r"front_end.tokens.\1"),
    (rf"{_MODALITY}\.local_encoder\.embed_positions\.(.*)", "encoder", r"front_end.places.\1"),
    (rf"{_MODALITY}\.local_encoder\.layernorm_embedding\.(.*)", "encoder", r"front_end.norm.\1"),
    (rf"{_MODALITY}\.relative_positional_encoder\.(\d+)\.0\.(.*)", "encoder", r"conv_positions.convs.\1.\2"),
    (rf"{_MODALITY}\.context_encoder\.norm\.(.*)", "encoder", r"input_norm.\1"),
    (rf"{_MODALITY}\.context_encoder\.blocks\.(.*)", "encoder", r"prenet.\1"),
    (rf"{_MODALITY}\.decoder\.blocks\.(\d+)\.0\.(.*)", "decoder", r"convs.\1.\2"),
    (rf"{_MODALITY}\.decoder\.(proj\..*)", "decoder", r"\1"),
    # The table is a formula; the model computes it for any length.
    (rf"{_MODALITY}\.fixed_positional_encoder\.positions", "positions", "positions"),
    (r"(blocks\..*)", "encoder", r"\1"),
    (r"(\d+\..*)", "encoder", r"blocks.\1"),  # a teacher that has blocks alone is their list itself
    (r"norm\.(.*)", "encoder", r"output_norm.\1"),
    (r"recon_proj\.(.*)", "reconstruction", r"\1"),
    (r"fc_norm\.(.*)", "head", r"norm.\1"),
    (r"head\.(.*)", "head", r"linear.\1"),
]


def rename(state: Mapping[str, Tensor]) -> tuple[dict[str, State], tuple[str, ...]]:
    """Sort a state with fairseq's names into our parts; also the keys that no rule knows."""
    parts: dict[str, State] = defaultdict(dict)
    unknown = []
    for key, value in state.items():
        name = key.removeprefix("model.")  # fine-tuned models wrap the pre-trained one
        for pattern, part, ours in _RENAMES:
            if match := re.fullmatch(pattern, name):
                parts[part][match.expand(ours)] = value
                break
        else:
            unknown.append(key)
    parts["encoder"] = {_counted_from_zero(name): value for name, value in parts["encoder"].items()}
    return parts, tuple(unknown)


def _counted_from_zero(name: str) -> str:
    """In their list of positional convolutions a transposition comes first, so they are counted from 1."""
    return re.sub(r"(conv_positions\.convs\.)(\d+)", lambda match: f"{match[1]}{int(match[2]) - 1}", name)


def from_fairseq(
    state: Mapping[str, Any], model_cfg: Mapping[str, Any], source: str, teacher: Mapping[str, Tensor] | None = None
) -> Weights:
    """Weights and configuration of a fairseq model.

    Args:
        state: the model's state; its teacher may be in it under ``_ema``, as the public trainer saves it.
        model_cfg: the model's configuration in fairseq's words.
        source: what to call this checkpoint in messages.
        teacher: the teacher's state, if it is not in ``state``.

    Raises:
        ValueError: if this is no model of the EAT family.
    """
    state = dict(state)
    teacher = state.pop("_ema", teacher)
    parts, unknown = rename(state)
    if any(key.startswith("modality_encoders.IMAGE.") for key in state) and "clip_token" not in parts["encoder"]:
        raise ValueError(
            f"{source} is not an EAT, SSLAM or data2vec 2.0 checkpoint: modality_encoders.IMAGE.extra_tokens is missing"
        )
    if not any(name.startswith("front_end.") for name in parts["encoder"]):
        raise ValueError(
            f"{source} is not an EAT, SSLAM or data2vec 2.0 checkpoint: it has no modality_encoders.*.local_encoder"
        )
    teacher_parts, teacher_unknown = rename(teacher) if teacher else ({}, ())
    decoder = parts.get("decoder")
    return Weights(
        source,
        _encoder_config(model_cfg, parts["encoder"], source),
        parts["encoder"],
        teacher_parts.get("encoder"),
        _decoder_config(model_cfg, decoder) if decoder else None,
        decoder,
        parts.get("reconstruction"),
        parts.get("head"),
        (*unknown, *(f"_ema.{key}" for key in teacher_unknown)),
    )


def model_section(cfg: Mapping[str, Any], source: str) -> Mapping[str, Any]:
    """The model's part of a whole fairseq configuration; a fine-tuned file keeps the pre-trained model's inside its own."""
    model = cfg.get("model") or {}
    if not isinstance(model, Mapping):
        raise ValueError(f"{source}: its configuration has {type(model).__name__} where cfg.model is expected")
    nested = model.get("pretrained_model_args")
    if nested:
        return model_section(nested, source)
    if "num_heads" not in model:
        raise ValueError(f"{source}: its configuration has no cfg.model.num_heads")
    return model


def _encoder_config(cfg: Mapping[str, Any], encoder: State, source: str) -> EncoderConfig:
    """What shapes tell is read from them; the rest from the configuration."""
    try:
        hidden_dim, dim = encoder["blocks.0.mlp.fc1.weight"].shape
        front_end = _front_end(cfg, encoder)
        patch_size = 16 if front_end is not None else encoder["front_end.proj.weight"].shape[-1]
        positions = encoder.get("conv_positions.convs.0.weight")
        return EncoderConfig(
            dim=dim,
            depth=_count(encoder, "blocks"),
            num_heads=cfg["num_heads"],
            mlp_ratio=hidden_dim / dim,
            patch_size=patch_size,
            norm_order="pre_released" if cfg.get("layer_norm_first") else "post",
            norm_eps=cfg.get("norm_eps", 1e-6),
            prenet_depth=_count(encoder, "prenet"),
            front_end=front_end,
            clip_token="clip_token" in encoder,
            input_norm="input_norm.weight" in encoder or bool(cfg.get("layer_norm_first")),
            conv_positions=None if positions is None else _conv_positions(encoder, positions),
            alibi=_alibi(cfg, encoder),
        )
    except (KeyError, ValueError, IndexError) as error:
        raise ValueError(f"{source} is not an EAT, SSLAM or data2vec 2.0 checkpoint: {error}") from None


def _front_end(cfg: Mapping[str, Any], encoder: State) -> FrontEndConfig | None:
    """None is the spectrogram's: an image of one channel."""
    if "front_end.tokens.weight" in encoder:
        # The first place is that of the padding token, behind which places are counted.
        padding_token = 1
        vocabulary, num_places = len(encoder["front_end.tokens.weight"]), len(encoder["front_end.places.weight"])
        dropout = _modality(cfg, "text").get("dropout", 0.1)
        return TextConfig(vocabulary, num_places - padding_token - 1, padding_token, dropout)
    if "front_end.convs.0.weight" in encoder:
        spec = _modality(cfg, "audio").get("feature_encoder_spec")
        return WaveformConfig(_conv_layers(spec)) if spec else WaveformConfig()
    _, in_channels, patch_size, _ = encoder["front_end.proj.weight"].shape
    return None if in_channels == 1 else ImageConfig(patch_size, in_channels)


def _conv_layers(spec: str) -> tuple[Layer, ...]:
    """fairseq writes Python: ``[(512, 10, 5)] + [(512, 3, 2)] * 4``. It is read, not run."""
    found = re.findall(r"\[\s*\((\d+),\s*(\d+),\s*(\d+)\)\s*\](?:\s*\*\s*(\d+))?", spec)
    layers = [(int(c), int(kernel), int(stride)) for c, kernel, stride, times in found for _ in range(int(times or 1))]
    if not layers:
        raise ValueError(f"feature_encoder_spec {spec!r} cannot be read")
    return tuple(layers)


def _conv_positions(encoder: State, first: Tensor) -> ConvPositionsConfig:
    dim, per_group, kernel = first.shape
    depth = len({name.split(".")[2] for name in encoder if name.startswith("conv_positions.convs.")})
    return ConvPositionsConfig(depth, kernel * depth, dim // per_group)


def _alibi(cfg: Mapping[str, Any], encoder: State) -> Literal["fixed", "learned"] | None:
    if "alibi.scale" not in encoder:
        return None
    learned = any(_modality(cfg, name).get("learned_alibi_scale") for name in ("audio", "image", "text"))
    return "learned" if learned else "fixed"


def _modality(cfg: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return (cfg.get("modalities") or {}).get(name) or {}


def _decoder_config(cfg: Mapping[str, Any], decoder: State) -> DecoderConfig:
    first = decoder["convs.0.weight"]
    dim, per_group, kernel_size, *rest = first.shape
    two_layers = "proj.2.weight" in decoder
    encoder_dim = decoder["proj.2.weight" if two_layers else "proj.weight"].shape[0]
    theirs = next((found for name in ("image", "audio", "text") if (found := _modality(cfg, name))), {})
    settings = theirs.get("decoder") or {}
    return DecoderConfig(
        dim=dim,
        depth=_count(decoder, "convs"),
        kernel_size=kernel_size,
        groups=encoder_dim // per_group,
        noise_std=theirs.get("mask_noise_std", 0.01),
        dimensions=2 if rest else 1,
        residual=settings.get("decoder_residual", True),
        projection_depth=2 if two_layers else 1,
        input_dropout=settings.get("input_dropout", 0.0),
    )


def _count(state: State, stack: str) -> int:
    return len({key.split(".")[1] for key in state if key.startswith(stack + ".")})
