"""Stochastic depth: training leaves out whole residual branches (Huang et al., 2016)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class DropPath(nn.Module):
    """Sets the branch of a random share of rows to zero and scales the others up, so that the mean stays."""

    def __init__(self, probability: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= probability < 1.0:
            raise ValueError(f"drop path must lie in [0, 1), got {probability}")
        self.probability = probability

    def forward(self, x: Float[Tensor, "rows *rest"]) -> Float[Tensor, "rows *rest"]:
        """Drop rows of ``x`` while training; otherwise return it as it is."""
        if not self.training or self.probability == 0.0:
            return x
        keep = 1.0 - self.probability
        return x * torch.empty(x.shape[0], *[1] * (x.ndim - 1), device=x.device, dtype=x.dtype).bernoulli_(keep) / keep

    def extra_repr(self) -> str:
        """Show the probability in the module's print-out."""
        return f"{self.probability:g}"
