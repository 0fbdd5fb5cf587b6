"""What EAT's two public layouts, fairseq's and that of Hugging Face, have in common."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from sslam_lightning.checkpoints.weights import Weights
from sslam_lightning.layers import sincos_positions
from sslam_lightning.models import EncoderConfig

_MAX_FRAMES = 768  # columns of patches in the released tables
_TOLERANCE = 2e-3  # half precision keeps three digits


def released_table(num_mel: int, dim: int, num_time: int) -> Tensor:
    """The table as released models hold it, (1, patches, dim), for at least ``num_time`` columns of patches."""
    return sincos_positions(max(num_time, _MAX_FRAMES), num_mel, dim).unsqueeze(0)


def columns_of(
    table: Tensor, num_mel: int, dim: int, where: str, formula: Callable[[int, int, int], Tensor] = sincos_positions
) -> int:
    """How many columns of patches a file's table of positions is for. The model computes it, so it is compared and left."""
    fits = table.ndim > 1 and table.shape[-1] == dim and dim % 4 == 0
    rows = table.float().flatten(0, -2) if fits else table.new_zeros(0)
    num_time = len(rows) // num_mel
    # A NaN is not less.
    if not num_time or len(rows) % num_mel or not (rows - formula(num_time, num_mel, dim)).abs().max() < _TOLERANCE:
        raise ValueError(f"{where} is not the fixed sine-cosine table of {num_mel} patches along the mels")
    return num_time


def refuse_others(weights: Weights, layout: str) -> None:
    """Refuse an encoder that a layout of log-mel patches with a CLS token cannot hold; our own form holds all of them."""
    if weights.head and weights.head_on == "decoder":
        raise ValueError(f"{weights.source}: {layout} knows no head behind a decoder: convert to safetensors")
    config, plain = weights.own_encoder, EncoderConfig()
    for name in ("front_end", "cls_token", "input_norm", "conv_positions", "alibi", "gated_attention", "max_time_patches"):
        value = getattr(config, name)
        if value != getattr(plain, name):
            told = value if isinstance(value, (bool, int, str)) else type(value).__name__
            raise ValueError(f"{weights.source}: {layout} knows no {name} {told}: convert to safetensors")


def public_mlp_ratio(config: EncoderConfig) -> float:
    """The hidden width of the feed-forward layers in units of ``dim``, such that it is still theirs rounded down."""
    hidden = round(config.dim * config.mlp_ratio)
    ratio = hidden / config.dim
    return ratio if int(config.dim * ratio) == hidden else math.nextafter(ratio, math.inf)
