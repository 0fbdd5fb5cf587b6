"""``sslam benchmark pretrain`` measures a real step and counts its operations as PyTorch does."""

from __future__ import annotations

import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from sslam_lightning.__main__ import main
from sslam_lightning.benchmarks import pretrain as benchmark
from sslam_lightning.benchmarks.operations import decoder_operations, encoder_operations
from sslam_lightning.benchmarks.pretrain import Stopwatch
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


def test_parts_within_parts_count_once(monkeypatch):
    """A clock that is looked at: callbacks take 2 + 3 ticks around 5 of the teacher's move, the optimizer the other 4."""
    clock = iter([0.0, 1.0, 11.0, 11.0, 12.0, 14.0, 19.0, 22.0, 25.0, 25.0])
    monkeypatch.setattr(benchmark, "now", lambda: next(clock))
    watch = Stopwatch(warmup_steps=0)
    watch._last_end = benchmark.now()
    watch.on_before_backward(None, None, None)
    watch.on_after_backward(None, None)
    with watch.measuring("callbacks"), watch.measuring("ema"):
        pass
    watch.on_train_batch_end(None, None, None, None, 0)
    parts = {part: seconds for part, (seconds,) in watch.parts.items()}
    assert parts == {"backward": 10.0, "callbacks": 5.0, "ema": 5.0, "optimizer": 4.0}
    assert watch.steps == [25.0]


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
    assert parts["logging and callbacks"] > 0
    assert 0 < sum(parts.values()) < 3 * figures["seconds per step"]
    assert 0 < figures["logging, callbacks and EMA, share of a step"] < 1
    assert figures["times the floor"] == pytest.approx(figures["seconds per step"] / figures["floor seconds"])
    assert "clips per second" in capsys.readouterr().out
