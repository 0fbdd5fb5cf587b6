"""The estimate of a step's memory against what autograd really keeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sslam_lightning.benchmarks.memory import (
    Arithmetic,
    StepShapes,
    decoder_activations,
    encoder_activations,
    step_memory,
)
from sslam_lightning.features import LogMels
from sslam_lightning.losses import ReconstructionLoss, SourceRetentionLoss, TeacherTargets, UtteranceLoss
from sslam_lightning.mixing import PartialMixing
from sslam_lightning.models import ConvDecoderConfig, EncoderConfig
from sslam_lightning.training import FinetuneModule, PretrainModule
from sslam_lightning.types import Batch

CLIPS, MASKS, FRAMES = 4, 2, 64
PATCHES = FRAMES // 16 * 8
ENCODER = EncoderConfig(dim=48, depth=3, num_heads=4)
DECODER = ConvDecoderConfig(dim=32, depth=3, groups=4)
STAGE_2 = {
    "mixing": PartialMixing("neighbor"),
    "source_retention": SourceRetentionLoss(),
    "utterance": UtteranceLoss(top_k_layers=1),
}


def kept_bytes(module: nn.Module, forward: Callable[[], Tensor], half: bool) -> int:
    """Of everything that autograd keeps beside the module's own weights; memory that tensors share counts once."""
    own = {p.untyped_storage().data_ptr() for p in (*module.parameters(), *module.buffers())}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    autocast = torch.autocast("cpu", torch.bfloat16, enabled=half)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), autocast:
        loss = forward()
    assert loss.requires_grad
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def batch() -> Batch:
    waveforms = 0.1 * torch.randn(CLIPS, 10560)
    labels = torch.eye(CLIPS)
    return Batch(waveforms, [10560] * CLIPS, labels, torch.arange(CLIPS), tuple("abcd"))


def matrices(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters() if p.ndim > 1)


@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("encoder", "decoder", "settings"),
    [
        ({}, {}, {}),
        ({"dim": 96, "depth": 2}, {"dim": 96, "depth": 1, "kernel_size": 5}, {"masks_per_clip": 5}),
        ({"norm": "pre", "prenet_depth": 1, "mlp_ratio": 2.0}, {}, {}),
        ({}, {}, STAGE_2),
        ({}, {}, {"reconstruction": ReconstructionLoss()}),
        ({}, {}, {**STAGE_2, "utterance": None, "masks_per_clip": 4}),
    ],
    ids=["stage 1", "wide", "pre-norm", "stage 2", "reconstruction", "no utterance"],
)
def test_pretraining(encoder: dict[str, Any], decoder: dict[str, Any], settings: dict[str, Any], half: bool) -> None:
    encoder_config, decoder_config = replace(ENCODER, **encoder), replace(DECODER, **decoder)
    settings = {"masks_per_clip": MASKS, **settings}
    module = PretrainModule(
        encoder_config, decoder_config, LogMels(num_frames=FRAMES), targets=TeacherTargets(top_k_layers=2), **settings
    )
    clips = batch()
    kept = kept_bytes(module, lambda: module.training_step(clips, 0), half)

    hidden = PATCHES - int(PATCHES * 0.2)
    seen = CLIPS * (2 if module.mixing else 1)
    rows = seen * module.masks_per_clip
    shapes = StepShapes(seen, rows, PATCHES, PATCHES - hidden, hidden, rows // 2 if module.source_retention else 0)
    arithmetic = Arithmetic(half, on_cpu=True)
    patch_values = 256 if module.reconstruction else 0
    expected = encoder_activations(encoder_config, shapes, arithmetic)
    expected += decoder_activations(decoder_config, encoder_config.dim, shapes, arithmetic, patch_values)
    parts = (*module.student.blocks, *module.student.prenet, module.decoder, module.reconstruction_head or nn.Identity())
    memory = step_memory(0, 0, expected, matrices(*parts), arithmetic)
    assert memory.activations == pytest.approx(kept, rel=0.02)


@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
def test_fine_tuning(half: bool) -> None:
    encoder = replace(ENCODER, drop_path_end=0.2)
    module = FinetuneModule(encoder, LogMels(num_frames=FRAMES), num_classes=CLIPS)
    clips = batch()
    kept = kept_bytes(module, lambda: module.training_step(clips, 0), half)
    arithmetic = Arithmetic(half, on_cpu=True)
    activations = encoder_activations(encoder, StepShapes(CLIPS, CLIPS, PATCHES, PATCHES), arithmetic)
    memory = step_memory(0, 0, activations, matrices(*module.encoder.blocks, module.head), arithmetic)
    assert memory.activations == pytest.approx(kept, rel=0.02)


def test_weights_by_hand() -> None:
    memory = step_memory(10, 6, 1000.0, 8, Arithmetic(half=True))
    assert memory == (40, 40, 80, 24, 1000 + 16)
    assert memory.total == 1200
    assert step_memory(10, 6, 1000.0, 8, Arithmetic(), sharded_over=4) == (10, 10, 20, 6, 1000)
    assert step_memory(10, 6, 0.0, 8, Arithmetic(), replicated=True) == (40, 80, 80, 24, 0)


def test_half_precision_on_a_gpu_keeps_float32_norms_in_the_decoder_and_no_table_of_attention() -> None:
    shapes = StepShapes(2, 4, 32, 6, 26)
    gpu, cpu = Arithmetic(half=True), Arithmetic(half=True, on_cpu=True)
    normed = 2 * 32 + 26
    decoders = [decoder_activations(DECODER, 48, shapes, arithmetic) for arithmetic in (gpu, cpu)]
    assert decoders[0] - decoders[1] == 4 * normed * 2 * 33 * 2
    encoders = [encoder_activations(ENCODER, shapes, arithmetic) for arithmetic in (gpu, cpu)]
    assert encoders[1] - encoders[0] == 4 * 7 * 3 * 4 * (7 * 2 - 4)
