"""Whether the parts of a checkpoint are the whole modules that its configuration says, found out without building them."""

from __future__ import annotations

import math

import torch
from torch import nn

from sslam_lightning.checkpoints.strictly import check_state
from sslam_lightning.checkpoints.transformers_weights import TransformersWeights
from sslam_lightning.checkpoints.weights import State, Weights
from sslam_lightning.models import (
    ClassificationHead,
    ConvDecoder,
    DecoderConfig,
    Encoder,
    EncoderConfig,
    Teacher,
    TransformerDecoder,
    TransformerDecoderConfig,
    WaveformConfig,
)
from sslam_lightning.models.teacher import TeacherParts


def verify(weights: Weights) -> Weights:
    """The same weights, if every part is complete, of the configured size and finite.

    Raises:
        ValueError: naming the first thing that is not.
    """
    source, config = weights.source, weights.encoder
    encoders = {"student": weights.student} | ({"teacher": weights.teacher} if weights.teacher else {})
    shared = {part: teacher_parts(state) for part, state in encoders.items()}
    for part, state in encoders.items():
        whole = part == "student" or shared[part] != "blocks"
        _check_count(state, "blocks", config.depth, f"{source}: {part}")
        _check_count(state, "prenet", config.prenet_depth if whole else 0, f"{source}: {part}")
        positions = config.conv_positions.depth if config.conv_positions and whole else 0
        _check_count(state, "conv_positions.convs", positions, f"{source}: {part}")
    if isinstance(config.front_end, WaveformConfig):
        _check_count(weights.student, "front_end.convs", len(config.front_end.layers), f"{source}: student")
    heads = weights.student["alibi.scale"].numel() if "alibi.scale" in weights.student else 0
    if config.alibi and heads != config.num_heads:
        raise ValueError(f"{source}: student.alibi.scale is for {heads} heads, the encoder has {config.num_heads}")
    decoder_config = weights.decoder_config or DecoderConfig()
    if weights.head_on == "decoder" and not (weights.decoder and isinstance(decoder_config, TransformerDecoderConfig)):
        raise ValueError(f"{source}: its head is behind a decoder of transformer blocks, which it does not hold")
    if weights.decoder:
        stack = "convs" if isinstance(decoder_config, DecoderConfig) else "blocks"
        _check_count(weights.decoder, stack, decoder_config.depth, f"{source}: decoder")
    try:
        # On the meta device shapes cost nothing, however large a file claims them to be.
        with torch.device("meta"):
            encoder = Encoder(config)
            parts: list[tuple[str, nn.Module, State]] = [("student", encoder, weights.student)]
            if weights.teacher:
                parts.append(("teacher", Teacher(encoder, shared["teacher"]).encoder, weights.teacher))
            if weights.decoder:
                parts.append(("decoder", _decoder(decoder_config, weights.decoder, config.dim), weights.decoder))
            for part, read_out in (("reconstruction", weights.reconstruction), ("contrast", weights.contrast)):
                if read_out:
                    width = _decoder_width(weights)
                    parts.append((part, nn.Linear(width, encoder.front_end.num_values), read_out))
            if weights.head:
                width = config.dim if weights.head_on == "encoder" else _decoder_width(weights)
                parts.append(("head", _head(weights, width), weights.head))
    except (RuntimeError, TypeError, ArithmeticError, AssertionError, IndexError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ValueError(f"{source}: no model has the sizes that it claims ({reason})") from None
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    for part, module, state in parts:
        counts = {name for name, own in module.state_dict().items() if not own.is_floating_point()}  # of batch norms
        for name, tensor in state.items():
            if tensor.is_floating_point() == (name in counts):
                if name in counts:
                    raise ValueError(f"{source}: {part}.{name} must hold a whole number, got {tensor.dtype}")
                raise ValueError(f"{source}: {part}.{name} must hold floating-point numbers, got {tensor.dtype}")
        check_state(module, state, part, source)
    if weights.class_names and (not weights.head or len(weights.class_names) != num_classes(weights)):
        count = num_classes(weights) if weights.head else 0
        raise ValueError(f"{source}: it has {len(weights.class_names)} names for {count} classes")
    return weights


def num_classes(weights: Weights | TransformersWeights) -> int:
    """How many classes the head tells apart.

    Raises:
        ValueError: if there is no head, or it has no linear layer.
    """
    if weights.head is None or "linear.weight" not in weights.head or weights.head["linear.weight"].ndim != 2:
        raise ValueError(f"{weights.source} holds no classification head: it is a pre-trained model, not a fine-tuned one")
    return len(weights.head["linear.weight"])


def count_stack(state: State, stack: str) -> int:
    """How many modules a state has in a stack such as ``blocks``."""
    start = f"{stack}."
    return len({key.removeprefix(start).partition(".")[0] for key in state if key.startswith(start)})


def refuse_others(weights: Weights, layout: str) -> None:
    """Refuse an encoder that a layout of log-mel patches with a clip token cannot hold; our own form holds all of them.

    Raises:
        ValueError: naming the first setting that the layout does not know.
    """
    if weights.head and weights.head_on == "decoder":
        raise ValueError(f"{weights.source}: {layout} knows no head behind a decoder: convert to shared")
    config, plain = weights.encoder, EncoderConfig()
    for name in ("front_end", "clip_token", "input_norm", "conv_positions", "alibi", "gated_attention", "max_time_patches"):
        value = getattr(config, name)
        if value != getattr(plain, name):
            told = value if isinstance(value, (bool, int, str)) else type(value).__name__
            raise ValueError(f"{weights.source}: {layout} knows no {name} {told}: convert to shared")


def public_mlp_ratio(weights: Weights) -> float:
    """The hidden width of the feed-forward layers in units of ``dim``, such that it is still theirs rounded down."""
    config = weights.encoder
    hidden = round(config.dim * config.mlp_ratio)
    ratio = hidden / config.dim
    return ratio if int(config.dim * ratio) == hidden else math.nextafter(ratio, math.inf)


def teacher_parts(state: State) -> TeacherParts:
    """What a teacher has of its own, told by its weights."""
    if any(name.startswith("front_end.") for name in state):
        return "encoder"
    return "blocks" if all(name.startswith("blocks.") for name in state) else "context"


def _decoder(config: DecoderConfig | TransformerDecoderConfig, state: State, dim: int) -> nn.Module:
    if isinstance(config, DecoderConfig):
        return ConvDecoder(config, dim)
    return TransformerDecoder(config, dim, dim if "output_proj.weight" in state else None)


def _head(weights: Weights, width: int) -> nn.Module:
    return ClassificationHead(width, num_classes(weights), weights.pooling, weights.head_norm_eps)


def _decoder_width(weights: Weights) -> int:
    """Of what read-outs take: MAE-AST's decoder gives its own width, all others lead back to the encoder's."""
    config = weights.decoder_config
    own = isinstance(config, TransformerDecoderConfig) and "output_proj.weight" not in (weights.decoder or {})
    return config.dim if own and config else weights.encoder.dim


def _check_count(state: State, stack: str, expected: int, where: str) -> None:
    found = count_stack(state, stack)
    if found != expected:
        raise ValueError(f"{where} has {found} {stack}, its configuration says {expected}")
