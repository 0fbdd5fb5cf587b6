"""The names of fairseq's data2vec 2.0, EAT and SSLAM checkpoints."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sslam_lightning.checkpoints.weights import State, Weights
from sslam_lightning.models import DecoderConfig, EncoderConfig

# (their name, our part, our name): the first pattern that matches the whole key wins.
_RENAMES = [
    (r"modality_encoders\.IMAGE\.extra_tokens", "encoder", "clip_token"),
    (r"modality_encoders\.IMAGE\.local_encoder\.(proj\..*)", "encoder", r"front_end.\1"),
    (r"modality_encoders\.IMAGE\.context_encoder\.norm\.(.*)", "encoder", r"input_norm.\1"),
    (r"modality_encoders\.IMAGE\.context_encoder\.blocks\.(.*)", "encoder", r"prenet.\1"),
    (r"modality_encoders\.IMAGE\.decoder\.blocks\.(\d+)\.0\.(.*)", "decoder", r"convs.\1.\2"),
    (r"modality_encoders\.IMAGE\.decoder\.(proj\..*)", "decoder", r"\1"),
    # The table is a formula; the model computes it for any length.
    (r"modality_encoders\.IMAGE\.fixed_positional_encoder\.positions", "positions", "positions"),
    (r"(blocks\..*)", "encoder", r"\1"),
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
    return parts, tuple(unknown)


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
    if "clip_token" not in parts["encoder"]:
        raise ValueError(f"{source} is not an EAT or SSLAM checkpoint: modality_encoders.IMAGE.extra_tokens is missing")
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
        projection = encoder["front_end.proj.weight"]
        dim, in_channels, patch_size, _ = projection.shape
        hidden_dim = encoder["blocks.0.mlp.fc1.weight"].shape[0]
    except (KeyError, ValueError) as error:
        raise ValueError(f"{source} is not an EAT or SSLAM checkpoint: {error}") from None
    return EncoderConfig(
        dim=dim,
        depth=_count(encoder, "blocks"),
        num_heads=cfg["num_heads"],
        mlp_ratio=hidden_dim / dim,
        patch_size=patch_size,
        in_channels=in_channels,
        norm_order="pre_released" if cfg.get("layer_norm_first") else "post",
        norm_eps=cfg.get("norm_eps", 1e-6),
        prenet_depth=_count(encoder, "prenet"),
    )


def _decoder_config(cfg: Mapping[str, Any], decoder: State) -> DecoderConfig:
    theirs = (cfg.get("modalities") or {}).get("image") or {}
    first = decoder["convs.0.weight"]
    dim, _, kernel_size, _ = first.shape
    return DecoderConfig(
        dim=dim,
        depth=_count(decoder, "convs"),
        kernel_size=kernel_size,
        groups=decoder["proj.weight"].shape[0] // first.shape[1],
        noise_std=theirs.get("mask_noise_std", 0.01),
    )


def _count(state: State, stack: str) -> int:
    return len({key.split(".")[1] for key in state if key.startswith(stack + ".")})
