"""The losses of an update, which may be made of several batches on several devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from lightning.pytorch.strategies import Strategy
from torch import Tensor


class UpdateLosses:
    """Means over all clips of an update: they are the same however the clips are spread over batches and devices.

    Sums are kept in float64, which hides in which order they were made.

    Args:
        names: of the losses.
        sums: over the clips of an update that has begun, and behind them the number of clips.
    """

    def __init__(self, names: Sequence[str], sums: Float[Tensor, "losses+1"] | None = None) -> None:
        self.names = tuple(names)
        self.sums = sums
        self._has_clips = sums is not None

    def add(self, losses: Mapping[str, Float[Tensor, ""]], clips: int, device: torch.device) -> None:
        """Take in a batch; one without clips needs no losses."""
        sums = torch.zeros(len(self.names) + 1, dtype=torch.float64, device=device)
        if clips:
            sums[:-1] = torch.stack([losses[name].detach() for name in self.names])
            sums[-1] = 1.0
            sums *= clips
            self._has_clips = True
        self.sums = sums if self.sums is None else self.sums + sums

    def finish(self, strategy: Strategy | None) -> dict[str, Float[Tensor, ""]]:
        """The means by name, over all ranks where a strategy is given; none without clips. The next update begins."""
        assert self.sums is not None, "an update has batches"
        sums, has_clips = self.sums, self._has_clips or strategy is not None
        self.sums, self._has_clips = None, False
        sums = sums if strategy is None else strategy.reduce(sums, reduce_op="sum")
        if not has_clips or (strategy is not None and not sums[-1]):  # no rank could read a clip
            return {}
        return dict(zip(self.names, (sums[:-1] / sums[-1]).float().unbind(), strict=True))
