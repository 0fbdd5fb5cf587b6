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


def test_the_command_embeds_files_at_every_batch_size(tmp_path, capsys, monkeypatch):
    # What a matrix product takes is measured elsewhere; here the rate is a number that the figures must follow.
    monkeypatch.setattr("sslam_lightning.benchmarks.inference.matrix_rate", lambda precision, shapes: 2e9)
    out = tmp_path / "figures.json"
    options = {
        "size": "tiny",
        "clip_seconds": 1.0,
        "num_clips": 3,
        "batch_sizes": "[1,2]",
        "repeats": 1,
        "file_format": "wav",
    }
    main(["benchmark", "inference", *(f"--{key}={value}" for key, value in options.items()), f"--out={out}"])
    figures = json.loads(out.read_text())
    patches = 7 * 8  # 98 frames of 10 ms
    config = EncoderConfig(dim=96, depth=4, num_heads=4)
    assert figures["operations per clip"] == encoder_operations(config, patches) + 2 * patches * 256 * 96
    assert [row["batch size"] for row in figures["by batch size"]] == [1, 2]
    for row in figures["by batch size"]:
        assert row["clips per second at that rate"] == pytest.approx(2e9 / figures["operations per clip"])
        share = row["clips per second"] / row["clips per second at that rate"]
        assert row["share of the matrix rate"] == pytest.approx(share)
    assert "share of the matrix rate" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["benchmark", "inference", "--batch_sizes=[0]"])
    assert "batch_sizes must be at least 1, got [0]" in capsys.readouterr().err
