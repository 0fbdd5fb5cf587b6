"""Seconds of the parts of a training step."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from lightning.pytorch.profilers import Profiler

from sslam_lightning.benchmarks.machine import now

WATCHING = "logging and callbacks"
REST = "data and loop"
_PARTS = {
    "[Callback]": WATCHING,
    ".backward": "backward",
    ".optimizer": "optimizer",
    ".on_before_optimizer_step": "optimizer",
    ".configure_gradient_clipping": "optimizer",
}  # by what is in the name that Lightning's trainer gives to an action


class StepProfiler(Profiler):
    """Seconds of every step by part, a part within a part counted once.

    Waits for the device at every mark, which a GPU's own overlap does not survive.

    Args:
        warmup_steps: steps that do not count.
    """

    def __init__(self, warmup_steps: int) -> None:
        super().__init__()
        self.parts: dict[str, list[float]] = defaultdict(list)
        self.steps: list[float] = []
        self._warmup_steps = warmup_steps
        self._step: dict[str, float] = defaultdict(float)
        self._open: list[tuple[float, list[float]]] = []  # when each action began, and seconds of the actions within it
        self._last_end = now()

    def start(self, action_name: str) -> None:
        self._open.append((now(), []))

    def stop(self, action_name: str) -> None:
        end = now()
        begin, inner = self._open.pop()
        if part := _part_of(action_name):
            self._step[part] += end - begin - sum(inner)
        if self._open:
            self._open[-1][1].append(end - begin)
        if action_name == "run_training_batch":
            self._end_step(end)

    def wrap(self, owner: object, name: str, part: str) -> None:
        """Measure a method of an object as a part of the step."""
        function: Callable[..., Any] = getattr(owner, name)

        @functools.wraps(function)
        def measured(*args: Any, **kwargs: Any) -> Any:
            with self.profile(part):
                return function(*args, **kwargs)

        setattr(owner, name, measured)

    def _end_step(self, end: float) -> None:
        """A step begins where the one before it ends: the callbacks and the logging after a batch are in the next one."""
        seconds = end - self._last_end
        self._step[REST] = seconds - sum(self._step.values())
        if self._warmup_steps > 0:
            self._warmup_steps -= 1
        else:
            self.steps.append(seconds)
            for part, part_seconds in self._step.items():
                self.parts[part].append(part_seconds)
        self._step.clear()
        self._last_end = end


def _part_of(action: str) -> str | None:
    if not action.startswith(("[", "run_")):
        return action
    return next((part for key, part in _PARTS.items() if key in action), None)
