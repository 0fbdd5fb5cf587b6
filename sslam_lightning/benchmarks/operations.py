"""Floating-point operations of a training step, counted from its shapes (2 for a multiplication with addition)."""

from __future__ import annotations

from typing import NamedTuple

from sslam_lightning.models import ConvDecoderConfig, EncoderConfig


class StepOperations(NamedTuple):
    """Matrix operations of one step by part; norms, activations and the like are not counted."""

    teacher: float
    student: float
    decoder: float
    backward: float

    @property
    def total(self) -> float:
        return sum(self)


def encoder_operations(config: EncoderConfig, tokens: int) -> float:
    """Forward operations of one row of ``tokens`` tokens through the blocks, the CLS token not counted in."""
    tokens += 1
    linear = 2 * tokens * config.dim**2 * (4 + 2 * config.mlp_ratio)
    attention = 4 * tokens**2 * config.dim
    return (config.depth + config.prenet_depth) * (linear + attention)


def embedding_operations(config: EncoderConfig, patches: int) -> float:
    """Operations of the linear map that embeds the patches of one clip."""
    return 2 * patches * config.patch_size**2 * config.dim


def decoder_operations(config: ConvDecoderConfig, dim: int, patches: int, hidden: int) -> float:
    """Forward operations of one row through the convolutions and the last linear layer."""
    channels = config.dim or dim
    widths = [dim] + [channels] * (config.depth - 1)
    convolutions = sum(2 * patches * config.kernel_size**2 * width * channels / config.groups for width in widths)
    return convolutions + 2 * hidden * channels * dim
