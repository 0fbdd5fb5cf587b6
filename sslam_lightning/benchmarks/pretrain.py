"""Where the time of a pre-training step goes, and how far it is from what the machine can do."""

from __future__ import annotations

import contextlib
import functools
import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import CSVLogger

from sslam_lightning.benchmarks.machine import encoder_shapes, machine_name, matrix_rate, now, peak_memory_gib
from sslam_lightning.benchmarks.operations import step_operations
from sslam_lightning.data import SyntheticDataModule
from sslam_lightning.features import LogMels
from sslam_lightning.mixing import PartialMixing
from sslam_lightning.models.sizes import SIZES
from sslam_lightning.objectives import LayerTargets, SourceRetention, Utterance
from sslam_lightning.training import PretrainModule
from sslam_lightning.training.callbacks import LossGuard, PeerWatch, Throughput
from sslam_lightning.training.optimizers import OptimizerConfig
from sslam_lightning.types import Grid

_WATCHING = "logging and callbacks"
_STEP_HOOKS = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
    "allows",  # of the loss guard, whom the module asks
)


class Stopwatch(pl.Callback):
    """Seconds of every step by part. Waits for the device at every mark, which a GPU's own overlap does not survive."""

    def __init__(self, warmup_steps: int) -> None:
        self.warmup_steps = warmup_steps
        self.parts: dict[str, list[float]] = defaultdict(list)
        self.steps: list[float] = []
        self._step: dict[str, float] = defaultdict(float)
        self._begin = self._last_end = 0.0
        self._inner: list[float] = []  # seconds of the parts within each part that is being measured
        self._measured = 0.0  # seconds of all parts so far

    @contextlib.contextmanager
    def measuring(self, part: str) -> Iterator[None]:
        """Add the time inside to a part of the current step, without that of other parts within."""
        start = now()
        self._inner.append(0.0)
        yield
        seconds, inner = now() - start, self._inner.pop()
        self._step[part] += seconds - inner
        if self._inner:
            self._inner[-1] += seconds
        else:
            self._measured += seconds

    def wrap(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, measured."""

        @functools.wraps(function)
        def measured(*args: Any, **kwargs: Any) -> Any:
            with self.measuring(part):
                return function(*args, **kwargs)

        return measured

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure what watches the run: the other callbacks and all logging. Start the clock of the first step's data."""
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            for name in _STEP_HOOKS:
                overridden = getattr(type(callback), name, None) is not getattr(pl.Callback, name, None)
                if callback is not self and overridden:
                    setattr(callback, name, self.wrap(_WATCHING, getattr(callback, name)))
        connector = trainer._logger_connector
        for holder, name in ((pl_module, "log"), (pl_module, "sum_and_log"), (connector, "update_train_step_metrics")):
            setattr(holder, name, self.wrap(_WATCHING, getattr(holder, name)))
        self._last_end, self._measured = now(), 0.0

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """What passed since the last step was waiting for data, and Lightning."""
        self._begin = now()
        self._step["data and loop"] += self._begin - self._last_end - self._measured

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: torch.Tensor) -> None:
        """Backward begins."""
        self._mark = now()

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Backward ends, the optimizer (with clipping) begins."""
        self._step["backward"] += now() - self._mark
        self._mark, self._measured = now(), 0.0

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Close the books of a step. This callback stands behind the others, so their time is in the step."""
        end = now()
        self._step["optimizer"] += end - self._mark - self._measured
        if batch_idx >= self.warmup_steps:
            self.steps.append(end - self._last_end)
            for part, seconds in self._step.items():
                self.parts[part].append(seconds)
        self._step.clear()
        self._last_end, self._measured = now(), 0.0


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
    encoder, decoder = SIZES[size]
    torch.manual_seed(0)
    module = PretrainModule(
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
    grid = Grid(num_frames // encoder.patch_size, encoder.num_mels // encoder.patch_size)
    hidden = module.masking.num_hidden(grid)
    shapes = encoder_shapes(encoder, batch_size * masks_per_clip * (grid.num_patches - hidden + 1))
    rate = matrix_rate(precision, shapes)
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
            callbacks=[LossGuard(), PeerWatch(), Throughput(), watch],
            default_root_dir=folder,
        )
        trainer.fit(module, data)

    shared = module.mixing.num_shared(grid.time) * grid.mel if module.mixing else 0
    watching = [sum(pair) for pair in zip(watch.parts[_WATCHING], watch.parts["ema"], strict=True)]
    operations = step_operations(encoder, decoder, batch_size, masks_per_clip, grid.num_patches, hidden, shared)
    rate = max(rate, matrix_rate(precision, shapes))  # before and after: rates drift on shared machines
    seconds = sorted(watch.steps)[len(watch.steps) // 2]
    floor = operations.total / rate
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
        "logging, callbacks and EMA, share of a step": sorted(watching)[len(watching) // 2] / seconds,
        "peak memory GiB": peak_memory_gib(),
        "seconds by part": {part: sorted(times)[len(times) // 2] for part, times in watch.parts.items()},
    }
    print(_table(result))
    if out:
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        Path(out).write_text(json.dumps(result, indent=1) + "\n")
    return result


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
