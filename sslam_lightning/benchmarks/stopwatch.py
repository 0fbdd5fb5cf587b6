"""Seconds of the parts of a training step."""

from __future__ import annotations

import contextlib
import functools
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import lightning.pytorch as pl
import torch

from sslam_lightning.benchmarks.machine import now

WATCHING = "logging and callbacks"
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
                    setattr(callback, name, self.wrap(WATCHING, getattr(callback, name)))
        connector = trainer._logger_connector
        for holder, name in ((pl_module, "log"), (pl_module, "sum_and_log"), (connector, "update_train_step_metrics")):
            setattr(holder, name, self.wrap(WATCHING, getattr(holder, name)))
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
