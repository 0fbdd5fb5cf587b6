"""Memory of a training step on one device, computed from its shapes.

Activations are what autograd keeps from the forward pass for the backward pass. Temporary tensors and the allocator's
reserve come on top: allow 10 to 20 %. So do the masks of dropout, which the published pre-training does not use.
"""

from __future__ import annotations

from typing import NamedTuple

from sslam_lightning.models import ConvDecoderConfig, EncoderConfig

_FULL, _HALF, _INDEX = 4, 2, 8  # bytes of float32, of bfloat16 and float16, of an index


class StepShapes(NamedTuple):
    """What a step works on, on one device.

    ``clips`` are embedded by the student, mixtures counted in; their ``rows`` (clips x masks) pass through its blocks with
    ``visible`` patches each, and ``hidden`` patches of each are guessed. ``mixtures`` of the rows are compared with both of
    their sources, too. In fine-tuning rows are clips, all patches are visible and none is guessed.
    """

    clips: int
    rows: int
    patches: int
    visible: int
    hidden: int = 0
    mixtures: int = 0


class Arithmetic(NamedTuple):
    """In what numbers a device computes: ``half`` is bfloat16 or float16 by autocast over float32 weights."""

    half: bool = False
    on_cpu: bool = False

    @property
    def product_bytes(self) -> int:
        """Of a value that goes into a matrix product."""
        return _HALF if self.half else _FULL

    @property
    def decoder_norm_bytes(self) -> int:
        """Of a value that goes into the decoder's norms: autocast makes them float32, but not on CPUs."""
        return _HALF if self.half and self.on_cpu else _FULL

    @property
    def fused_attention(self) -> bool:
        """Whether the table of attention weights is never kept."""
        return not (self.half and self.on_cpu)


class StepMemory(NamedTuple):
    """Bytes on one device by what they are for."""

    weights: float
    gradients: float
    optimizer: float
    teacher: float
    activations: float

    @property
    def total(self) -> float:
        return sum(self)


def encoder_activations(config: EncoderConfig, shapes: StepShapes, arithmetic: Arithmetic) -> float:
    """Bytes that the student's embedding, blocks and result keep."""
    x, dim, tokens = arithmetic.product_bytes, config.dim, shapes.visible + 1
    hidden_dim = int(dim * config.mlp_ratio)
    block = (6 * dim + 2 * hidden_dim) * x  # into qkv; q, k, v; into proj and fc1; into GELU and fc2
    block += 2 * (dim + 2) * _FULL  # into two norms, with mean and deviation
    block += config.num_heads * (_FULL if arithmetic.fused_attention else tokens * _HALF)  # log-sum-exp, or weights
    outside = (dim + 2) * _FULL + dim * _FULL  # into the norm before or behind the blocks, and the result
    per_row = tokens * ((config.depth + config.prenet_depth) * block + outside)
    chosen = shapes.visible * _INDEX if shapes.hidden else 0
    return shapes.rows * (per_row + chosen) + shapes.clips * shapes.patches * config.patch_size**2 * x


def decoder_activations(
    config: ConvDecoderConfig, dim: int, shapes: StepShapes, arithmetic: Arithmetic, patch_values: int = 0
) -> float:
    """Bytes that the convolutions, the last linear layer and the comparison with the targets keep.

    Args:
        config: of the decoder.
        dim: width of the encoder.
        shapes: of the step.
        arithmetic: of the device.
        patch_values: values of a patch, if they are reconstructed.
    """
    x, n, width = arithmetic.product_bytes, arithmetic.decoder_norm_bytes, config.dim or dim
    into_convolutions = shapes.patches * (dim + (config.depth - 1) * width) * x
    normed = (config.depth - 1) * shapes.patches + shapes.hidden  # the last one looks at hidden patches only
    refined = normed * 2 * (width + 1) * n  # into norm, with mean and deviation, and into GELU
    read_out = shapes.hidden * width * x
    index = (shapes.patches + 2 * shapes.hidden) * _INDEX
    compared = shapes.hidden * 2 * dim * _FULL
    if patch_values:
        compared += shapes.hidden * (2 * patch_values * _FULL + (dim * x if arithmetic.half else 0))
    sources = shapes.mixtures * shapes.hidden * dim * _FULL * (2 if arithmetic.half else 1)
    return shapes.rows * (into_convolutions + refined + read_out + index + compared) + sources


def step_memory(
    learning: int,
    frozen: int,
    activations: float,
    matrices: int,
    arithmetic: Arithmetic,
    sharded_over: int = 1,
    replicated: bool = False,
) -> StepMemory:
    """All parts of a step.

    Args:
        learning: parameters that the optimizer trains, with two moments each.
        frozen: parameters of the teacher, or of an encoder that is only evaluated.
        activations: bytes, see :func:`encoder_activations` and :func:`decoder_activations`.
        matrices: parameters in the learning matrix products, of which autocast keeps half-precision copies.
        arithmetic: of the device.
        sharded_over: devices among which weights are shared out (FSDP).
        replicated: several devices exchange gradients (DDP), which takes a second copy of them.
    """
    share = _FULL / sharded_over
    copies = matrices * _HALF if arithmetic.half else 0
    return StepMemory(
        learning * share,
        learning * share * (2 if replicated else 1),
        learning * share * 2,
        frozen * share,
        activations + copies,
    )
