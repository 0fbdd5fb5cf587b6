"""Where the time of a pre-training step goes, and how far it is from what the machine can do."""

from __future__ import annotations

import tempfile
from statistics import median
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import CSVLogger

from sslam_lightning.benchmarks.figures import check_target, report, single_values
from sslam_lightning.benchmarks.machine import encoder_shapes, machine_name, matrix_rate, peak_memory_gib
from sslam_lightning.benchmarks.memory import Arithmetic
from sslam_lightning.benchmarks.step_plan import Placement, plan_step
from sslam_lightning.benchmarks.step_profiler import WATCHING, StepProfiler
from sslam_lightning.data import SyntheticDataModule
from sslam_lightning.features import LogMels
from sslam_lightning.losses import SourceRetentionLoss, UtteranceLoss
from sslam_lightning.mixing import PartialMixing
from sslam_lightning.models.sizes import MODELS
from sslam_lightning.training import PretrainModule
from sslam_lightning.training.callbacks import SaveOnSignal
from sslam_lightning.training.run.optimizers import OptimizerConfig
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
    module = _module(size, masks_per_clip, num_frames, stage, compile)
    plan = plan_step(module, batch_size, num_frames, Placement(Arithmetic()))
    shapes = encoder_shapes(MODELS[f"eat_{size}"].encoder, plan.shapes.rows * (plan.shapes.visible + 1))
    rate = matrix_rate(precision, shapes)
    profile = _train(module, batch_size, num_frames, precision, steps, warmup_steps)
    rate = max(rate, matrix_rate(precision, shapes))  # before and after: rates drift on shared machines
    floor, seconds = plan.operations.total / rate, median(profile.steps)
    watching = [sum(pair) for pair in zip(profile.parts[WATCHING], profile.parts["ema"], strict=True)]
    result: dict[str, Any] = {
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
        "operations per step": plan.operations.total,
        "matrix rate": rate,
        "floor seconds": floor,
        "times the floor": seconds / floor,
        "share of the matrix rate": floor / seconds,
        "logging, callbacks and EMA, share of a step": median(watching) / seconds,
        "peak memory GiB": peak_memory_gib(),
        "seconds by part": {part: median(times) for part, times in profile.parts.items()},
    }
    parts = [f"  {part:<42}{value:8.3f}  {value / seconds:6.1%}" for part, value in result["seconds by part"].items()]
    return report(result, [*single_values(result, 44), "seconds by part", *parts], out)


def _module(size: str, masks_per_clip: int, num_frames: int, stage: int, compile: bool) -> PretrainModule:
    """EAT's stage 1 or SSLAM's stage 2, as published."""
    encoder, _, decoder = MODELS[f"eat_{size}"]
    torch.manual_seed(0)
    return PretrainModule(
        encoder,
        decoder,
        LogMels(num_frames=num_frames),
        masks_per_clip=masks_per_clip,
        utterance=UtteranceLoss(top_k_layers=1 if stage == 2 else None),
        mixing=PartialMixing() if stage == 2 else None,
        source_retention=SourceRetentionLoss() if stage == 2 else None,
        optimizer=OptimizerConfig(max_steps=1000),
        compile=compile,
    )


def _train(
    module: PretrainModule, batch_size: int, num_frames: int, precision: str, steps: int, warmup_steps: int
) -> StepProfiler:
    """The steps, measured."""
    profiler = StepProfiler(warmup_steps)
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
            callbacks=[SaveOnSignal()],
            profiler=profiler,
            default_root_dir=folder,
        )
        _instrument(module, profiler)
        profiler.wrap(trainer._logger_connector, "update_train_step_metrics", WATCHING)
        trainer.fit(module, data)
    return profiler


def _instrument(module: PretrainModule, profiler: StepProfiler) -> None:
    """Measure the parts where they are called; the module's own code knows nothing of it."""
    profiler.wrap(module, "log_mels", "features")
    profiler.wrap(module, "teacher_targets", "teacher")
    profiler.wrap(module, "losses", "losses")
    profiler.wrap(module.student, "embed", "student")
    profiler.wrap(module.student, "encode", "student")
    profiler.wrap(module.decoder, "forward", "decoder")
    assert module.teacher is not None, "the benchmark trains with one"
    profiler.wrap(module.teacher, "update_ema", "ema")
    profiler.wrap(module, "log", WATCHING)
    profiler.wrap(module, "sum_and_log", WATCHING)
