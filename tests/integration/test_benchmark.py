"""``sslam benchmark pretrain`` measures a real step and counts its operations as PyTorch does."""

from __future__ import annotations

import json
from itertools import count

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from sslam_lightning.__main__ import main
from sslam_lightning.benchmarks import step_profiler
from sslam_lightning.benchmarks.operations import decoder_operations, encoder_operations
from sslam_lightning.benchmarks.step_profiler import StepProfiler
from sslam_lightning.masking import InverseBlockMask
from sslam_lightning.models import ConvDecoder, ConvDecoderConfig, Encoder, EncoderConfig
from sslam_lightning.types import Grid


def test_operations_are_those_that_pytorch_counts():
    encoder, decoder = EncoderConfig(dim=32, depth=2, num_heads=2), ConvDecoderConfig(dim=16, depth=2, groups=4)
    grid, rows = Grid(4, 8), 3
    mask = InverseBlockMask()(torch.arange(rows), grid)
    tokens = torch.randn(rows, mask.ids_keep.shape[1], 32)
    with (
        FlopCounterMode(display=False) as counted,
        torch.no_grad(),
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
    ):
        Encoder(encoder).encode(tokens)
    assert counted.get_total_flops() == pytest.approx(rows * encoder_operations(encoder, tokens.shape[1]))
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        ConvDecoder(decoder, 32)(tokens, mask, grid)
    hidden = mask.ids_masked.shape[1]
    assert counted.get_total_flops() == pytest.approx(rows * decoder_operations(decoder, 32, grid.num_patches, hidden))


def test_parts_within_parts_count_once(monkeypatch):
    """A clock that is looked at: callbacks take 2 + 3 ticks around 5 of the EMA, the optimizer 4."""
    clock = iter([0.0, 1.0, 1.0, 1.0, 11.0, 15.0, 15.0, 17.0, 22.0, 25.0, 25.0])
    monkeypatch.setattr(step_profiler, "now", lambda: next(clock))
    profiler = StepProfiler(warmup_steps=0)
    with profiler.profile("run_training_batch"):
        with (
            profiler.profile("[LightningModule]PretrainModule.optimizer_step"),
            profiler.profile("[Strategy]SingleDeviceStrategy.backward"),
        ):
            pass
        with profiler.profile("[Callback]Throughput.on_train_batch_end"), profiler.profile("ema"):
            pass
    parts = {part: seconds for part, (seconds,) in profiler.parts.items()}
    assert parts == {"backward": 10.0, "optimizer": 4.0, "logging and callbacks": 5.0, "ema": 5.0, "data and loop": 1.0}
    assert profiler.steps == [25.0]


def test_the_command_writes_its_figures(tmp_path, capsys, monkeypatch):
    """R30: by a clock that ticks when it is looked at."""
    ticks = count()
    monkeypatch.setattr(step_profiler, "now", lambda: float(next(ticks)))
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
    assert 0 < sum(parts.values()) <= figures["seconds per step"]
    assert 0 < figures["logging, callbacks and EMA, share of a step"] < 1
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
        "repeats": 1,
        "file_format": "wav",
    }
    words = [*(f"--{key}={value}" for key, value in options.items()), "--batch_sizes", "1", "2", f"--out={out}"]
    main(["benchmark", "inference", *words])
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


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["pretrain", "--batch_size=-1"], "batch_size must be at least 1, got -1"),
        (["pretrain", "--stage=2", "--batch_size=1"], "stage 2 mixes clips: batch_size must be at least 2, got 1"),
        (["pretrain", "--steps=0"], "steps must be at least 1, got 0"),
        (["pretrain", "--warmup_steps=0"], "warmup_steps must be at least 1, got 0"),
        (["pretrain", "--out=kept.json"], "kept.json exists already: move it, or name another with --out"),
        (["inference", "--batch_sizes", "0"], "batch_sizes must be at least 1, got [0]"),
        (["inference", "--clip_seconds=-1"], "clip_seconds must be at least 0.2, got -1"),
        (
            ["inference", "--size=tiny", "--clip_seconds=150"],
            "clip_seconds must be at most 120, one window of the model, got 150",
        ),
        (["inference", "--num_clips=0"], "num_clips must be at least 1, got 0"),
        (["inference", "--file_rate_hz=0"], "file_rate_hz must be at least 1000, got 0"),
        (["inference", "--repeats=0"], "repeats must be at least 1, got 0"),
        (["inference", "--workers=-1"], "workers must be at least 0, got -1"),
        (["inference", "--out=kept.json"], "kept.json exists already"),
        (["data", "--manifest=x.tsv", "--clips=0"], "clips must be at least 1, got 0"),
        (["data", "--manifest=x.tsv", "--repeats=0"], "repeats must be at least 1, got 0"),
        (["data", "--manifest=x.tsv", "--batch_size=0"], "batch_size must be at least 1, got 0"),
        (["data", "--manifest=x.tsv", "--masks_per_clip=0"], "masks_per_clip must be at least 1, got 0"),
        (["data", "--manifest=x.tsv", "--workers=-1"], "workers must be at least 0, got -1"),
        (["data", "--manifest=x.tsv", "--recipe=sound.ogg", "--step_seconds=1"], "sound.ogg is no YAML file: "),
        (["data", "--manifest=x.tsv", "--out=kept.json"], "kept.json exists already"),
    ],
)
def test_what_cannot_be_measured_is_told_first(options, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kept.json").write_text("{}")
    (tmp_path / "sound.ogg").write_bytes(b"OggS\x00\x02\xf4\xbf")
    with pytest.raises(SystemExit) as left:
        main(["benchmark", *options])
    assert left.value.code == 2
    assert f"sslam: error: {told}" in capsys.readouterr().err
    assert (tmp_path / "kept.json").read_text() == "{}"
