"""Floating-point operations of a pre-training step, counted from its shapes (2 for a multiplication with addition)."""

from __future__ import annotations

from typing import NamedTuple

from sslam_lightning.models import DecoderConfig, EncoderConfig


class StepOperations(NamedTuple):
    """Matrix operations of one step by part; norms, activations and the like are not counted."""

    teacher: float
    student: float
    decoder: float
    backward: float

    @property
    def total(self) -> float:
        """Of the whole step."""
        return sum(self)


def encoder_operations(config: EncoderConfig, tokens: int) -> float:
    """Forward operations of one row of ``tokens`` tokens through the blocks, the clip token not counted in."""
    tokens += 1
    linear = 2 * tokens * config.dim**2 * (4 + 2 * config.mlp_ratio)
    attention = 4 * tokens**2 * config.dim
    return (config.depth + config.prenet_depth) * (linear + attention)


def decoder_operations(config: DecoderConfig, dim: int, patches: int, hidden: int) -> float:
    """Forward operations of one row through the convolutions and the last linear layer."""
    widths = [dim] + [config.dim] * (config.depth - 1)
    convolutions = sum(2 * patches * config.kernel_size**2 * width * config.dim / config.groups for width in widths)
    return convolutions + 2 * hidden * config.dim * dim


def step_operations(
    encoder: EncoderConfig,
    decoder: DecoderConfig,
    clips: int,
    masks_per_clip: int,
    patches: int,
    hidden: int,
    shared_patches: int = 0,
) -> StepOperations:
    """Operations of a training step; ``shared_patches`` > 0 is stage 2, in which ``clips`` are mixed as well."""
    seen = clips * (2 if shared_patches else 1)
    rows = seen * masks_per_clip
    embedding = 2 * patches * encoder.patch_size**2 * encoder.dim * seen
    teacher = embedding + seen * encoder_operations(encoder, patches)
    if shared_patches:
        teacher += clips * encoder_operations(encoder, shared_patches)
    student = embedding + rows * encoder_operations(encoder, patches - hidden)
    decoding = rows * decoder_operations(decoder, encoder.dim, patches, hidden)
    return StepOperations(teacher, student, decoding, 2 * (student + decoding))
