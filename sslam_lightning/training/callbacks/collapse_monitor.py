"""Stops a run whose predictions or targets have become the same everywhere (data2vec 2.0's ``min_pred_var``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl

from sslam_lightning.whole_numbers import check_whole_numbers


@dataclass
class CollapseConfig:
    """Bounds on the signs of collapse; a bound of 0 never stops a run.

    What data2vec 2.0 calls variances are standard deviations over rows, averaged over channels
    (`sslam_lightning.metrics.variance_indicator`). The defaults of the first two are its own; EAT's and SSLAM's recipes set
    both to 0.

    Args:
        min_pred_std: bound for the decoder's output at hidden patches.
        min_target_std: bound for the teacher's targets.
        min_token_std: bound for how much the tokens of a clip differ in the teacher's last layer, as a share of
            their size (`sslam_lightning.metrics.token_std`). Targets that are normalized over the tokens of a clip
            never lose their variance, whatever the teacher does.
        start_step: updates before the guard wakes up.
    """

    min_pred_std: float = 0.01
    min_target_std: float = 0.1
    min_token_std: float = 0.01
    start_step: int = 5000

    def __post_init__(self) -> None:
        check_whole_numbers(self, "collapse")
        for name, value in vars(self).items():
            if not value >= 0:
                raise ValueError(f"collapse: {name} must not be negative, got {value}")


class Collapse(RuntimeError):
    """The student has found that guessing the same everywhere is enough."""

    for_users = True  # the message says it all


class CollapseMonitor(pl.Callback):
    """Looks at what is logged of them every ``trainer.log_every_n_steps`` updates."""

    def __init__(self, config: CollapseConfig = CollapseConfig()) -> None:
        self.config = config

    def on_train_batch_end(
        self, trainer: Any, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        updates = trainer.global_step
        if updates <= self.config.start_step or updates % max(1, trainer.log_every_n_steps):
            return
        for name in ("pred_std", "target_std", "token_std"):
            bound = getattr(self.config, f"min_{name}")
            value = float(trainer.callback_metrics.get(f"train/{name}", bound))
            if trainer.strategy.reduce_boolean_decision(value < bound, all=False):  # all ranks stop together
                raise Collapse(
                    f"collapse: after {updates} updates the {name.replace('_', ' ')} is {value:.2g}, below its bound "
                    f"{bound:g} (model.collapse.min_{name}). Try a smaller learning rate or a slower teacher."
                )
