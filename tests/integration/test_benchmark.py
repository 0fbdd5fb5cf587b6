"""``sslam benchmark pretrain`` measures a real step and counts its operations as PyTorch does."""

from __future__ import annotations

import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from sslam_lightning.__main__ import main
from sslam_lightning.benchmarks.operations import decoder_operations, encoder_operations
from sslam_lightning.masking import InverseBlockMask
from sslam_lightning.models import ConvDecoder, DecoderConfig, Encoder, EncoderConfig
from sslam_lightning.types import Grid


def test_operations_are_those_that_pytorch_counts():
    encoder, decoder = EncoderConfig(dim=32, depth=2, num_heads=2), DecoderConfig(dim=16, depth=2, groups=4)
    grid, rows = Grid(4, 8), 3
    mask = InverseBlockMask()(torch.arange(rows), grid)
    tokens = torch.randn(rows, mask.visible_index.shape[1], 32)
    with (
        FlopCounterMode(display=False) as counted,
        torch.no_grad(),
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
    ):
        Encoder(encoder).encode(tokens)
    assert counted.get_total_flops() == pytest.approx(rows * encoder_operations(encoder, tokens.shape[1]))
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        ConvDecoder(decoder, 32)(tokens, mask, grid)
    hidden = mask.hidden_index.shape[1]
    assert counted.get_total_flops() == pytest.approx(rows * decoder_operations(decoder, 32, grid.num_patches, hidden))


def test_the_command_writes_its_figures(tmp_path, capsys):
    out = tmp_path / "figures.json"
    options = {
        "size": "tiny",
        "num_frames": 64,
        "batch_size": 2,
        "masks_per_clip": 2,
        "stage": 2,
        "steps": 2,
        "warmup_steps": 1,
    }
    main(["benchmark", "pretrain", *(f"--{key}={value}" for key, value in options.items()), f"--out={out}"])
    figures = json.loads(out.read_text())
    parts = figures["seconds by part"]
    assert {"features", "teacher", "student", "decoder", "backward", "optimizer", "ema"} <= parts.keys()
    assert 0 < sum(parts.values()) < 3 * figures["seconds per step"]
    assert figures["times the floor"] == pytest.approx(figures["seconds per step"] / figures["floor seconds"])
    assert "clips per second" in capsys.readouterr().out
