"""Moves the teacher after every optimizer update (data2vec 2.0, arXiv 2212.07525, section 3.1)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.utilities import rank_zero_warn

from sslam_lightning.schedules import linear_anneal
from sslam_lightning.whole_numbers import check_whole_numbers


@dataclass
class EMAConfig:
    """The teacher's weights are decay * teacher + (1 - decay) * student; the decay rises in a straight line.

    Args:
        decay: at the start.
        end_decay: at the end of annealing, and from there on.
        anneal_steps: optimizer updates until ``end_decay``.
        start_at_decay: whether the first update has ``decay`` itself (BAT), or is one step of annealing on (data2vec).
    """

    decay: float = 0.9998
    end_decay: float = 0.99999
    anneal_steps: int = 100_000
    start_at_decay: bool = False

    def __post_init__(self) -> None:
        check_whole_numbers(self, "ema")
        if not 0 <= self.decay <= self.end_decay <= 1:
            raise ValueError(f"ema needs 0 <= decay <= end_decay <= 1, got {self.decay} and {self.end_decay}")
        if self.anneal_steps < 0:
            raise ValueError(f"ema: anneal_steps must not be negative, got {self.anneal_steps}")


class EMATeacher(pl.Callback):
    """Calls ``teacher.update_ema`` once per optimizer update, whatever the gradient accumulation."""

    def __init__(self, config: EMAConfig = EMAConfig()) -> None:
        self.config = config
        self.updates = 0

    @property
    def decay(self) -> float:
        """The decay after ``updates`` finished updates."""
        updates = max(0, self.updates - self.config.start_at_decay)
        return linear_anneal(updates, self.config.decay, self.config.end_decay, self.config.anneal_steps)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if pl_module.steps_taken > self.updates:
            self.updates = pl_module.steps_taken
            pl_module.teacher.update_ema(pl_module.student, self.decay)
            pl_module.log("train/ema_decay", self.decay)

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.updates, **asdict(self.config)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.updates = state_dict["updates"]
        saved = {key: value for key, value in state_dict.items() if key != "updates"}
        if saved != {key: value for key, value in asdict(self.config).items() if key in saved}:
            rank_zero_warn(f"the teacher's schedule was {saved} in the checkpoint and now is {asdict(self.config)}")
