"""Our tiny models under fairseq's names, written down independently of the importer's table."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from sslam_lightning.layers import sincos_positions
from sslam_lightning.models import ClassificationHead, ConvDecoder, ConvDecoderConfig, Encoder, EncoderConfig

IMAGE = "modality_encoders.IMAGE"
State = dict[str, torch.Tensor]


def randomized(module: nn.Module) -> nn.Module:
    """Every weight different from every other and from its initial value."""
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module


def encoder_state(encoder: Encoder) -> State:
    """An encoder as fairseq's trainer saves it."""
    theirs = {}
    for name, value in encoder.state_dict().items():
        part, _, rest = name.partition(".")
        theirs[
            {
                "cls_token": f"{IMAGE}.extra_tokens",
                "front_end": f"{IMAGE}.local_encoder.{rest}",
                "input_norm": f"{IMAGE}.context_encoder.norm.{rest}",
                "prenet": f"{IMAGE}.context_encoder.blocks.{rest}",
                "blocks": f"blocks.{rest}",
                "output_norm": f"norm.{rest}",
            }[part]
        ] = value
    return theirs


def decoder_state(decoder: ConvDecoder) -> State:
    """A decoder likewise: its convolutions are the first module of every block."""
    theirs = {}
    for name, value in decoder.state_dict().items():
        part, *rest = name.split(".")
        if part == "convs":
            theirs[f"{IMAGE}.decoder.blocks.{rest[0]}.0.{rest[1]}"] = value
        else:
            theirs[f"{IMAGE}.decoder.proj.{rest[0]}"] = value
    return theirs


def head_state(head: ClassificationHead) -> State:
    """A classification head likewise."""
    return {
        "fc_norm.weight": head.norm.weight,
        "fc_norm.bias": head.norm.bias,
        "head.weight": head.linear.weight,
        "head.bias": head.linear.bias,
    }


def pretrained(encoder: EncoderConfig, decoder: ConvDecoderConfig) -> tuple[dict[str, nn.Module], dict[str, Any]]:
    """The modules of a pre-trained model, and its state in a file: with a teacher, a read-out, and a table of positions."""
    modules = {
        "student": randomized(Encoder(encoder)),
        "teacher": randomized(Encoder(encoder)),
        "decoder": randomized(ConvDecoder(decoder, encoder.dim)),
        "reconstruction": randomized(nn.Linear(encoder.dim, encoder.patch_size**2)),
    }
    positions = sincos_positions(8, encoder.num_mels // encoder.patch_size, encoder.dim)
    state: dict[str, Any] = {
        **encoder_state(modules["student"]),  # type: ignore[arg-type]
        **decoder_state(modules["decoder"]),  # type: ignore[arg-type]
        **{f"recon_proj.{name}": value for name, value in modules["reconstruction"].state_dict().items()},
        f"{IMAGE}.fixed_positional_encoder.positions": positions[None],
        "_ema": encoder_state(modules["teacher"]),  # type: ignore[arg-type]
    }
    return modules, state
