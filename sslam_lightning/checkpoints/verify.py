"""Whether the parts of a checkpoint are the whole modules that its configuration says, found out without building them."""

from __future__ import annotations

import torch
from torch import nn

from sslam_lightning.checkpoints.messages import naming
from sslam_lightning.checkpoints.state_dict import check_state, count_stack
from sslam_lightning.checkpoints.weights import State, Weights
from sslam_lightning.models import (
    ClassificationHead,
    ConvDecoderConfig,
    Encoder,
    HuggingFaceConfig,
    Teacher,
    TransformerDecoderConfig,
    WaveformConfig,
)
from sslam_lightning.models.teacher import TeacherParts


def verify(weights: Weights) -> Weights:
    """The same weights, if every part is complete, of the configured size and finite. Models of transformers are compared
    when they are built."""
    if isinstance(weights.encoder, HuggingFaceConfig):
        return weights
    source = weights.source
    _check_counts(weights)
    for part, module in _modules(weights).items():
        state = getattr(weights, part)
        counts = {name for name, own in module.state_dict().items() if not own.is_floating_point()}  # of batch norms
        for name, tensor in state.items():
            if tensor.is_floating_point() == (name in counts):
                expected = "a whole number" if name in counts else "floating-point numbers"
                raise ValueError(f"{source}: {part}.{name} must hold {expected}, got {tensor.dtype}")
        check_state(module, state, part, source)
    count = weights.num_classes if weights.head else 0
    if weights.class_names and len(weights.class_names) != count:
        raise ValueError(f"{source}: it has {len(weights.class_names)} names for {count} classes")
    return weights


def teacher_parts(state: State) -> TeacherParts:
    """What a teacher has of its own, told by its weights."""
    if any(name.startswith("front_end.") for name in state):
        return "encoder"
    return "blocks" if all(name.startswith("blocks.") for name in state) else "context"


def _check_counts(weights: Weights) -> None:
    """Compare what is counted with the weights, before a configuration decides how much is built."""
    source, config, decoder_config = weights.source, weights.own_encoder, weights.decoder_config
    for part, state in (("student", weights.student), ("teacher", weights.teacher)):
        if part == "student" or state:
            whole = part == "student" or teacher_parts(state or {}) != "blocks"
            positions = config.conv_positions.depth if config.conv_positions else 0
            counts = {"blocks": config.depth, "prenet": config.prenet_depth * whole}
            _check_stacks(state or {}, counts | {"conv_positions.convs": positions * whole}, f"{source}: {part}")
    if isinstance(config.front_end, WaveformConfig):
        _check_stacks(weights.student, {"front_end.convs": len(config.front_end.layers)}, f"{source}: student")
    heads = weights.student["alibi.scale"].numel() if "alibi.scale" in weights.student else 0
    if config.alibi and heads != config.num_heads:
        raise ValueError(f"{source}: student.alibi.scale is for {heads} heads, the encoder has {config.num_heads}")
    if weights.head_on == "decoder" and not (weights.decoder and isinstance(decoder_config, TransformerDecoderConfig)):
        raise ValueError(f"{source}: its head is behind a decoder of transformer blocks, which it does not hold")
    if weights.decoder and decoder_config is None:
        raise ValueError(f"{source}: it holds a decoder without its settings")
    if weights.decoder and decoder_config:
        stack = "convs" if isinstance(decoder_config, ConvDecoderConfig) else "blocks"
        _check_stacks(weights.decoder, {stack: decoder_config.depth}, f"{source}: decoder")


def _check_stacks(state: State, expected: dict[str, int], where: str) -> None:
    for stack, count in expected.items():
        if (found := count_stack(state, stack)) != count:
            raise ValueError(f"{where} has {found} {stack}, its configuration says {count}")


def _modules(weights: Weights) -> dict[str, nn.Module]:
    """The modules of the parts on the meta device, where shapes cost nothing, however large a file claims them to be."""
    config = weights.own_encoder
    classes = weights.num_classes if weights.head else 0
    width = config.dim  # of what read-outs take
    with naming(weights.source, "a model of the sizes that it claims"), torch.device("meta"):
        encoder = Encoder(config)
        modules: dict[str, nn.Module] = {"student": encoder}
        if weights.teacher:
            modules["teacher"] = Teacher(encoder, teacher_parts(weights.teacher)).encoder
        if weights.decoder and weights.decoder_config:
            decoder = weights.decoder_config.build(config.dim)
            modules["decoder"], width = decoder, decoder.output_dim
        for part in ("reconstruction", "contrast"):
            if getattr(weights, part):
                modules[part] = nn.Linear(width, encoder.front_end.num_values)
        if weights.head:
            head_width = config.dim if weights.head_on == "encoder" else width
            modules["head"] = ClassificationHead(head_width, classes, weights.pooling, weights.head_norm_eps)
    return modules
