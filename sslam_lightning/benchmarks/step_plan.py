"""What one step of a module costs on one device, before anything is run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from torch import nn

from sslam_lightning.benchmarks.memory import (
    Arithmetic,
    StepMemory,
    StepShapes,
    decoder_activations,
    encoder_activations,
    step_memory,
)
from sslam_lightning.benchmarks.operations import StepOperations, encoder_operations, step_operations
from sslam_lightning.features import LogMels
from sslam_lightning.models import ConvDecoder, DecoderConfig, EncoderConfig, FrameHead
from sslam_lightning.training import FinetuneModule, PretrainModule
from sslam_lightning.types import Grid


class StepPlan(NamedTuple):
    """Shapes, operations and memory of one batch on one device, and the parameters behind them."""

    shapes: StepShapes
    operations: StepOperations
    memory: StepMemory
    learning: dict[str, int]  # parameters by part
    frozen: dict[str, int]


class Placement(NamedTuple):
    """Where a step runs: in what numbers, and how weights are spread over devices."""

    arithmetic: Arithmetic
    devices: int = 1
    sharded: bool = False


def features_of(module: nn.Module) -> LogMels:
    """The log-mels of a module whose steps can be planned.

    Raises:
        ValueError: if it has another front-end or decoder than those that are counted here.
    """
    if isinstance(module, PretrainModule) and isinstance(module.decoder, ConvDecoder):
        config = module.student.config
    elif isinstance(module, FinetuneModule) and module.decoder is None:
        config = module.encoder.config
    else:
        raise ValueError("steps are counted for convolutional decoders and heads, this configuration has another decoder")
    if not isinstance(config, EncoderConfig):
        raise ValueError("steps are counted for log-mel patches, this configuration has a model of transformers")
    if config.front_end is not None or module.features is None:
        raise ValueError("steps are counted for log-mel patches, this configuration has another encoder.front_end")
    return module.features


def plan_step(module: PretrainModule | FinetuneModule, batch_size: int, num_frames: int, placement: Placement) -> StepPlan:
    """Plan a batch.

    Args:
        module: what is trained; its weights may be on the meta device.
        batch_size: clips on one device.
        num_frames: length of a clip in frames of 10 ms.
        placement: where it runs.
    """
    if isinstance(module, PretrainModule):
        shapes, operations, activations = _pretraining(module, batch_size, num_frames, placement.arithmetic)
        multiplied: Iterable[nn.Module | None] = (
            *module.student.blocks,
            *module.student.prenet,
            module.decoder,
            module.reconstruction_head,
        )
        frozen = {"teacher": _count(module.teacher)}
        learning = {"encoder": _count(module.student), "decoder": _count(module.decoder)}
        if module.reconstruction_head is not None:
            learning["reconstruction head"] = _count(module.reconstruction_head)
    else:
        shapes, operations, activations = _finetuning(module, batch_size, num_frames, placement.arithmetic)
        encoder, head = {"encoder": _count(module.encoder)}, {"head": _count(module.head)}
        learning, frozen = (head, encoder) if module.frozen_encoder else ({**encoder, **head}, {})
        multiplied = (module.head,) if module.frozen_encoder else (*module.encoder.all_blocks(), module.head)
    matrices = sum(p.numel() for part in multiplied if part is not None for p in part.parameters() if p.ndim > 1)
    memory = step_memory(
        sum(learning.values()),
        sum(frozen.values()),
        activations,
        matrices,
        placement.arithmetic,
        sharded_over=placement.devices if placement.sharded else 1,
        replicated=placement.devices > 1 and not placement.sharded,
    )
    return StepPlan(shapes, operations, memory, learning, frozen)


def _pretraining(
    module: PretrainModule, batch_size: int, num_frames: int, arithmetic: Arithmetic
) -> tuple[StepShapes, StepOperations, float]:
    encoder, decoder = module.student.config, module.decoder.config
    assert isinstance(decoder, DecoderConfig), "others have been refused"
    grid = Grid(num_frames // encoder.patch_size, encoder.num_mels // encoder.patch_size)
    hidden = module.masking.num_hidden(grid)
    seen = batch_size * (2 if module.mixing else 1)
    rows = seen * module.masks_per_clip
    mixtures = rows // 2 if module.source_retention else 0
    shapes = StepShapes(seen, rows, grid.num_patches, grid.num_patches - hidden, hidden, mixtures)
    shared = module.mixing.num_shared(grid.time) * grid.mel if module.mixing else 0
    operations = step_operations(encoder, decoder, batch_size, module.masks_per_clip, grid.num_patches, hidden, shared)
    patch_values = encoder.patch_size**2 if module.reconstruction else 0
    activations = encoder_activations(encoder, shapes, arithmetic)
    activations += decoder_activations(decoder, encoder.dim, shapes, arithmetic, patch_values)
    return shapes, operations, activations


def _finetuning(
    module: FinetuneModule, batch_size: int, num_frames: int, arithmetic: Arithmetic
) -> tuple[StepShapes, StepOperations, float]:
    encoder = module.encoder.config
    grid = Grid(num_frames // encoder.patch_size, encoder.num_mels // encoder.patch_size)
    patches = grid.num_patches
    shapes = StepShapes(batch_size, batch_size, patches, patches)
    forward = batch_size * (encoder_operations(encoder, patches) + 2 * patches * encoder.patch_size**2 * encoder.dim)
    head = 2 * batch_size * encoder.dim * module.num_classes * _predictions(module.head, grid)
    backward = 2 * head + (0 if module.frozen_encoder else 2 * forward)
    activations = 0.0 if module.frozen_encoder else encoder_activations(encoder, shapes, arithmetic)
    return shapes, StepOperations(0.0, forward, head, backward), activations


def _predictions(head: nn.Module, grid: Grid) -> int:
    """How many a head makes of a clip."""
    return grid.time if isinstance(head, FrameHead) else 1


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
