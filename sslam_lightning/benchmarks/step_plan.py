"""What one step of a module costs on one device, before anything is run."""

from __future__ import annotations

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
from sslam_lightning.benchmarks.operations import (
    StepOperations,
    decoder_operations,
    embedding_operations,
    encoder_operations,
)
from sslam_lightning.features import LogMels
from sslam_lightning.models import ConvDecoder, ConvDecoderConfig, EncoderConfig, FrameHead
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
    if isinstance(module, PretrainModule) and module.teacher and isinstance(module.decoder, ConvDecoder):
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
        assert module.teacher is not None, "others have been refused"
        learning: dict[str, nn.Module | None] = {
            "encoder": module.student,
            "decoder": module.decoder,
            "reconstruction head": module.reconstruction_head,
        }
        frozen = {"teacher": _count(module.teacher)}
        multiplied = [*module.student.blocks, *module.student.prenet, module.decoder, module.reconstruction_head]
    else:
        shapes, operations, activations = _finetuning(module, batch_size, num_frames, placement.arithmetic)
        learning = {"head": module.head} if module.frozen_encoder else {"encoder": module.encoder, "head": module.head}
        frozen = {"encoder": _count(module.encoder)} if module.frozen_encoder else {}
        multiplied = [module.head] if module.frozen_encoder else [*module.encoder.all_blocks(), module.head]
    counts = {name: _count(part) for name, part in learning.items() if part is not None}
    memory = step_memory(
        sum(counts.values()),
        sum(frozen.values()),
        activations,
        sum(p.numel() for part in multiplied if part is not None for p in part.parameters() if p.ndim > 1),
        placement.arithmetic,
        sharded_over=placement.devices if placement.sharded else 1,
        replicated=placement.devices > 1 and not placement.sharded,
    )
    return StepPlan(shapes, operations, memory, counts, frozen)


def _pretraining(
    module: PretrainModule, batch_size: int, num_frames: int, arithmetic: Arithmetic
) -> tuple[StepShapes, StepOperations, float]:
    encoder, decoder = module.student.config, module.decoder.config
    assert isinstance(decoder, ConvDecoderConfig), "others have been refused"
    grid = _grid(encoder, num_frames)
    patches, hidden = grid.num_patches, module.masking.num_hidden(grid)
    clips = batch_size * (2 if module.mixing else 1)
    rows = clips * module.masks_per_clip
    shapes = StepShapes(clips, rows, patches, patches - hidden, hidden, rows // 2 if module.source_retention else 0)
    embedding = clips * embedding_operations(encoder, patches)
    teacher = embedding + clips * encoder_operations(encoder, patches)
    if module.mixing:
        teacher += batch_size * encoder_operations(encoder, module.mixing.num_shared(grid.time) * grid.freq)
    student = embedding + rows * encoder_operations(encoder, patches - hidden)
    decoding = rows * decoder_operations(decoder, encoder.dim, patches, hidden)
    patch_values = encoder.patch_size**2 if module.reconstruction else 0
    activations = encoder_activations(encoder, shapes, arithmetic)
    activations += decoder_activations(decoder, encoder.dim, shapes, arithmetic, patch_values)
    return shapes, StepOperations(teacher, student, decoding, 2 * (student + decoding)), activations


def _finetuning(
    module: FinetuneModule, batch_size: int, num_frames: int, arithmetic: Arithmetic
) -> tuple[StepShapes, StepOperations, float]:
    encoder = module.encoder.config
    grid = _grid(encoder, num_frames)
    patches = grid.num_patches
    shapes = StepShapes(batch_size, batch_size, patches, patches)
    forward = batch_size * (encoder_operations(encoder, patches) + embedding_operations(encoder, patches))
    predictions = grid.time if isinstance(module.head, FrameHead) else 1
    head = 2 * batch_size * encoder.dim * module.num_classes * predictions
    backward = 2 * head + (0 if module.frozen_encoder else 2 * forward)
    activations = 0.0 if module.frozen_encoder else encoder_activations(encoder, shapes, arithmetic)
    return shapes, StepOperations(0.0, forward, head, backward), activations


def _grid(config: EncoderConfig, num_frames: int) -> Grid:
    return Grid(num_frames // config.patch_size, config.num_mels // config.patch_size)


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
