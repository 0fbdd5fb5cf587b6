"""Tiny models as ``Weights``, every weight different from every other."""

from __future__ import annotations

import torch
from fairseq_names import randomized
from torch import nn

from sslam_lightning.checkpoints import Weights
from sslam_lightning.models import ClassificationHead, ConvDecoder, ConvDecoderConfig, Encoder, EncoderConfig

ENCODER = EncoderConfig(dim=16, depth=2, num_heads=2, mlp_ratio=2.5, dropout=0.1, norm_eps=1e-5)
DECODER = ConvDecoderConfig(dim=24, depth=2, kernel_size=2, groups=4, noise_std=0.02)
FEATURES = {"num_frames": 32, "mean": -6.627, "std": 5.359, "num_mels": 128, "patch_frames": 16}
PARTS = ("student", "teacher", "decoder", "reconstruction", "head")


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in randomized(module).state_dict().items()}


def pretrained(encoder: EncoderConfig = ENCODER) -> Weights:
    return Weights(
        "a model",
        encoder,
        state(Encoder(encoder)),
        state(Encoder(encoder)),
        DECODER,
        state(ConvDecoder(DECODER, encoder.dim)),
        state(nn.Linear(encoder.dim, encoder.patch_size**2)),
        features=FEATURES,
        resampler="soxr",
    )


def finetuned(encoder: EncoderConfig = ENCODER) -> Weights:
    return Weights(
        "a model",
        encoder,
        state(Encoder(encoder)),
        head=state(ClassificationHead(encoder.dim, 3)),
        features=FEATURES,
        class_names=("dog", "rain, heavy", "crow"),
        multi_label=False,
    )


def assert_same_bits(ours: Weights, expected: Weights, *but: str) -> None:
    """Everything is the same, weights bit by bit, apart from the source and the fields named."""
    for name in Weights._fields:
        value, wanted = getattr(ours, name), getattr(expected, name)
        if name in ("source", *but):
            continue
        if name not in PARTS or wanted is None:
            assert value == wanted, name
            continue
        assert value.keys() == wanted.keys(), name
        for key, tensor in wanted.items():
            assert value[key].dtype == tensor.dtype, (name, key)
            assert torch.equal(value[key], tensor), (name, key)
