"""The losses of an update, which may be made of several batches on several devices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import lightning.pytorch as pl
import torch
from jaxtyping import Float
from lightning.pytorch.strategies import Strategy
from torch import Tensor, distributed, nn


class UpdateLosses:
    """Means over all clips of an update: they are the same however the clips are spread over batches and devices.

    Sums are kept in float64, which hides in which order they were made.

    Args:
        names: of the losses.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.sums: Float[Tensor, "losses+1"] | None = None  # over the batches of a step, and behind them their weight
        self._has_clips = False
        self.weights: Float[Tensor, "2"] | None = None  # so far on this device, without and with the last batch

    def add(self, sums: Mapping[str, Float[Tensor, ""]], weight: float | Float[Tensor, ""], device: torch.device) -> None:
        """Take in a batch: the sums of its losses, and what the mean divides them by. One without clips has no sums."""
        own = torch.zeros(len(self.names) + 1, dtype=torch.float64, device=device)
        if sums:
            own[:-1] = torch.stack([sums[name].detach() for name in self.names])
            own[-1] = weight
            self._has_clips = True
        before = torch.zeros_like(own) if self.sums is None else self.sums
        self.sums = before + own
        self.weights = torch.stack([before[-1], self.sums[-1]])  # a copy: reducing the sums changes them in place

    def finish(self, strategy: Strategy | None) -> dict[str, Float[Tensor, ""]]:
        """The means by name, over all ranks where a strategy is given; none without clips. The next update begins."""
        assert self.sums is not None, "an update has batches"
        sums, has_clips = self.sums, self._has_clips or strategy is not None
        self.sums, self._has_clips = None, False
        sums = sums if strategy is None else strategy.reduce(sums, reduce_op="sum")
        if not has_clips or (strategy is not None and not sums.any()):  # no rank could read a clip
            return {}
        return dict(zip(self.names, (sums[:-1] / sums[-1].clamp(min=1.0)).float().unbind(), strict=True))


def share_of_update(
    total: Float[Tensor, ""], weights: Float[Tensor, "2"], parameters: Iterable[nn.Parameter], trainer: pl.Trainer | None
) -> Float[Tensor, ""]:
    """A batch's part of a loss that is divided by the weight of the whole update, as fairseq's trainer does.

    The trainer takes the mean over devices and accumulated batches, which is undone here. How much the batches to come
    weigh is not known yet: the gradients of those before are scaled down instead, from their weight to the new one. All
    ranks have to call this for every batch; a weight below 1 counts as 1.

    Args:
        total: the batch's summed loss.
        weights: of the update so far on this device, without and with this batch.
        parameters: of the module; those without a gradient are left out.
        trainer: None for a single batch on a single device.
    """
    batches = 1 if trainer is None else trainer.accumulate_grad_batches
    devices = 1 if trainer is None else trainer.world_size
    if devices > 1:
        weights = weights.clone()
        distributed.all_reduce(weights)  # the strategy's reduction would have the host wait for all ranks
    before, so_far = weights.clamp(min=1.0)
    if batches > 1:
        for gradient in (parameter.grad for parameter in parameters if parameter.grad is not None):
            gradient.mul_((before / so_far).to(gradient.dtype))
    return total * (devices * batches / so_far).to(total.dtype)
