"""Whether the parts of a checkpoint are the whole modules that its configuration says, found out without building them."""

from __future__ import annotations

import torch
from torch import nn

from sslam_lightning.checkpoints.strictly import check_state
from sslam_lightning.checkpoints.weights import State, Weights
from sslam_lightning.models import ClassificationHead, ConvDecoder, DecoderConfig, Encoder


def verify(weights: Weights) -> Weights:
    """The same weights, if every part is complete, of the configured size and finite.

    Raises:
        ValueError: naming the first thing that is not.
    """
    source, config = weights.source, weights.encoder
    encoders = {"student": weights.student} | ({"teacher": weights.teacher} if weights.teacher else {})
    for part, state in encoders.items():
        _check_count(state, "blocks", config.depth, f"{source}: {part}")
        _check_count(state, "prenet", config.prenet_depth, f"{source}: {part}")
    if weights.decoder:
        decoder_config = weights.decoder_config or DecoderConfig()
        _check_count(weights.decoder, "convs", decoder_config.depth, f"{source}: decoder")
    try:
        # On the meta device shapes cost nothing, however large a file claims them to be.
        with torch.device("meta"):
            encoder = Encoder(config)
            parts: list[tuple[str, nn.Module, State]] = [(part, encoder, state) for part, state in encoders.items()]
            if weights.decoder:
                parts.append(("decoder", ConvDecoder(decoder_config, config.dim), weights.decoder))
            if weights.reconstruction:
                read_out = nn.Linear(config.dim, config.patch_size**2)
                parts.append(("reconstruction", read_out, weights.reconstruction))
            if weights.head:
                parts.append(("head", ClassificationHead(config.dim, num_classes(weights), weights.pooling), weights.head))
    except (RuntimeError, TypeError, OverflowError) as error:
        raise ValueError(f"{source}: no model has the sizes that it claims ({str(error).splitlines()[0][:200]})") from None
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    for part, module, state in parts:
        for name, tensor in state.items():
            if not tensor.is_floating_point():
                raise ValueError(f"{source}: {part}.{name} must hold floating-point numbers, got {tensor.dtype}")
        check_state(module, state, part, source)
    if weights.class_names and (not weights.head or len(weights.class_names) != num_classes(weights)):
        count = num_classes(weights) if weights.head else 0
        raise ValueError(f"{source}: it has {len(weights.class_names)} names for {count} classes")
    return weights


def num_classes(weights: Weights) -> int:
    """How many classes the head tells apart.

    Raises:
        ValueError: if there is no head, or it has no linear layer.
    """
    if weights.head is None or "linear.weight" not in weights.head or weights.head["linear.weight"].ndim != 2:
        raise ValueError(f"{weights.source} holds no classification head: it is a pre-trained model, not a fine-tuned one")
    return len(weights.head["linear.weight"])


def count_stack(state: State, stack: str) -> int:
    """How many modules a state has in a stack such as ``blocks``."""
    return len({key.split(".")[1] for key in state if key.startswith(stack + ".")})


def _check_count(state: State, stack: str, expected: int, where: str) -> None:
    found = count_stack(state, stack)
    if found != expected:
        raise ValueError(f"{where} has {found} {stack}, its configuration says {expected}")
