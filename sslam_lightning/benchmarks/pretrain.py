"""Where the time of a pre-training step goes, and how far it is from what the machine can do."""

from __future__ import annotations

import tempfile
from statistics import median
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import CSVLogger

from sslam_lightning.benchmarks.figures import check_target, write_figures
from sslam_lightning.benchmarks.machine import encoder_shapes, machine_name, matrix_rate, peak_memory_gib
from sslam_lightning.benchmarks.operations import step_operations
from sslam_lightning.benchmarks.stopwatch import WATCHING, Stopwatch
from sslam_lightning.data import SyntheticDataModule
from sslam_lightning.features import LogMels
from sslam_lightning.mixing import PartialMixing
from sslam_lightning.models.sizes import SIZES
from sslam_lightning.objectives import LayerTargets, SourceRetention, Utterance
from sslam_lightning.training import PretrainModule
from sslam_lightning.training.callbacks import LossGuard, SaveOnSignal, Throughput
from sslam_lightning.training.optimizers import OptimizerConfig
from sslam_lightning.types import Grid
from sslam_lightning.whole_numbers import check_at_least


def run_benchmark(
    size: str,
    batch_size: int,
    masks_per_clip: int,
    num_frames: int,
    stage: int,
    precision: str,
    steps: int,
    warmup_steps: int,
    compile: bool,
    out: str | None,
) -> dict[str, Any]:
    """Train for a few steps through ``Trainer.fit`` and print a table; see ``sslam benchmark pretrain --help``."""
    check_at_least(1, batch_size=batch_size, masks_per_clip=masks_per_clip, steps=steps)
    check_at_least(1, warmup_steps=warmup_steps)  # the first step has no teacher to move yet
    if stage == 2 and batch_size < 2:
        raise ValueError(f"stage 2 mixes clips: batch_size must be at least 2, got {batch_size}")
    check_target(out)
    encoder, decoder = SIZES[size]
    module = _module(size, masks_per_clip, num_frames, stage, compile)
    grid = Grid(num_frames // encoder.patch_size, encoder.num_mels // encoder.patch_size)
    hidden = module.masking.num_hidden(grid)
    shapes = encoder_shapes(encoder, batch_size * masks_per_clip * (grid.num_patches - hidden + 1))
    rate = matrix_rate(precision, shapes)
    watch = _train(module, batch_size, num_frames, precision, steps, warmup_steps)
    rate = max(rate, matrix_rate(precision, shapes))  # before and after: rates drift on shared machines

    shared = module.mixing.num_shared(grid.time) * grid.mel if module.mixing else 0
    operations = step_operations(encoder, decoder, batch_size, masks_per_clip, grid.num_patches, hidden, shared)
    floor, seconds = operations.total / rate, median(watch.steps)
    watching = [sum(pair) for pair in zip(watch.parts[WATCHING], watch.parts["ema"], strict=True)]
    result = {
        "machine": machine_name(),
        "torch": torch.__version__,
        "model": size,
        "stage": stage,
        "clips x masks": f"{batch_size} x {masks_per_clip}",
        "frames": num_frames,
        "precision": precision,
        "compile": compile,
        "seconds per step": seconds,
        "clips per second": batch_size / seconds,
        "operations per step": operations.total,
        "matrix rate": rate,
        "floor seconds": floor,
        "times the floor": seconds / floor,
        "share of the matrix rate": floor / seconds,
        "logging, callbacks and EMA, share of a step": median(watching) / seconds,
        "peak memory GiB": peak_memory_gib(),
        "seconds by part": {part: median(times) for part, times in watch.parts.items()},
    }
    print(_table(result))
    write_figures(result, out)
    return result


def _module(size: str, masks_per_clip: int, num_frames: int, stage: int, compile: bool) -> PretrainModule:
    """EAT's stage 1 or SSLAM's stage 2, as published."""
    encoder, decoder = SIZES[size]
    torch.manual_seed(0)
    return PretrainModule(
        encoder,
        decoder,
        LogMels(num_frames=num_frames),
        masks_per_clip=masks_per_clip,
        targets=LayerTargets(top_k_layers=encoder.depth),
        utterance=Utterance(top_k_layers=1 if stage == 2 else None),
        mixing=PartialMixing() if stage == 2 else None,
        source_retention=SourceRetention() if stage == 2 else None,
        optimizer=OptimizerConfig(max_updates=1000),
        compile=compile,
    )


def _train(
    module: PretrainModule, batch_size: int, num_frames: int, precision: str, steps: int, warmup_steps: int
) -> Stopwatch:
    """The steps, measured."""
    watch = Stopwatch(warmup_steps)
    _instrument(module, watch)
    num_steps = steps + warmup_steps
    data = SyntheticDataModule(
        num_train=batch_size * num_steps,
        num_val=1,
        clip_seconds=num_frames / 100 + 0.015,
        batch_size=batch_size,
        num_workers=0,
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            max_steps=num_steps,
            precision=precision,  # type: ignore[arg-type]
            accelerator="auto",
            devices=1,
            gradient_clip_val=4.0,
            limit_val_batches=0,
            logger=CSVLogger(folder),
            log_every_n_steps=1,  # the most that logging can cost
            enable_checkpointing=False,
            enable_model_summary=False,
            callbacks=[LossGuard(), SaveOnSignal(), Throughput(), watch],
            default_root_dir=folder,
        )
        trainer.fit(module, data)
    return watch


def _instrument(module: PretrainModule, watch: Stopwatch) -> None:
    """Measure the parts where they are called; the module's own code knows nothing of it."""
    for part, name in {"features": "log_mels", "teacher": "teacher_targets", "losses": "losses"}.items():
        setattr(module, name, watch.wrap(part, getattr(module, name)))
    module.student.embed = watch.wrap("student", module.student.embed)  # type: ignore[method-assign]
    module.student.encode = watch.wrap("student", module.student.encode)  # type: ignore[method-assign]
    module.decoder.forward = watch.wrap("decoder", module.decoder.forward)  # type: ignore[method-assign]
    module.teacher.follow = watch.wrap("ema", module.teacher.follow)  # type: ignore[method-assign]


def _table(result: dict[str, Any]) -> str:
    total, parts = result["seconds per step"], result["seconds by part"]
    lines = [
        f"{name:<44}{value:.4g}" if isinstance(value, float) else f"{name:<44}{value}"
        for name, value in result.items()
        if value is not parts
    ]
    lines.append("seconds by part")
    lines += [f"  {part:<42}{seconds:8.3f}  {seconds / total:6.1%}" for part, seconds in parts.items()]
    return "\n".join(lines)
