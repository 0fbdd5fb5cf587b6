"""Losses by their names: summed and logged in training, averaged over the clips of a validation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import lightning.pytorch as pl
import torch
from jaxtyping import Float
from torch import Tensor, nn

from sslam_lightning.metrics import MeanLoss

if TYPE_CHECKING:
    from sslam_lightning.training.module import AudioModule


class Losses(nn.ModuleDict):
    """What a module's objectives report, and their running means over a validation.

    The means are not left to ``log(..., sync_dist=True)``: over ranks Lightning rounds the mean number of clips down to a
    whole number. A NaN among the losses makes the mean NaN: that of the others would choose checkpoints.
    """

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__({name: MeanLoss() for name in names})

    @property
    def log_names(self) -> tuple[str, ...]:
        """What training logs: the total, then every loss."""
        return ("loss", *(f"loss_{name}" for name in self))

    def sum_and_log(self, module: AudioModule, losses: dict[str, Tensor], rows: int) -> Float[Tensor, ""]:
        """The total. Training logs it with every loss by name; a validation takes the losses of ``rows`` clips in."""
        total = torch.stack(list(losses.values())).sum()
        if not module.training:
            for name, loss in losses.items():
                self._mean_of(name).update(loss.double() * rows, rows)
            return total
        module.log_losses({"loss": total, **{f"loss_{name}": loss for name, loss in losses.items()}}, rows)
        return total

    def log_means(self, module: pl.LightningModule) -> None:
        """Every loss as its mean over all clips of all ranks since the last time, and their sum; nothing without clips."""
        means = {name: self._mean_of(name).compute() for name in self}
        for name in self:
            self._mean_of(name).reset()
        known = {name: mean for name, mean in means.items() if mean is not None}
        for name, mean in known.items():
            module.log(f"val/loss_{name}", mean)
        if known:
            module.log("val/loss", torch.stack(list(known.values())).sum(), prog_bar=True)

    def _mean_of(self, name: str) -> MeanLoss:
        metric = self[name]
        assert isinstance(metric, MeanLoss)
        return metric
