"""Stochastic depth: training leaves out whole residual branches (Huang et al., 2016)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class DropPath(nn.Module):
    """Sets the branch of a random share of rows to zero and scales the others up, so that the mean stays."""

    keep: Tensor

    def __init__(self, probability: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= probability < 1.0:
            raise ValueError(f"drop path must lie in [0, 1), got {probability}")
        self.probability = probability
        self.drops = probability > 0.0
        # As a tensor, since compiled code is made anew for every number that it meets, and every block has another.
        self.register_buffer("keep", torch.tensor(1.0 - probability, dtype=torch.float32, device="cpu"), persistent=False)

    def forward(self, x: Float[Tensor, "rows *rest"]) -> Float[Tensor, "rows *rest"]:
        """Drop rows of ``x`` while training; otherwise return it as it is."""
        if not self.training or not self.drops:
            return x
        kept = torch.rand(x.shape[0], *[1] * (x.ndim - 1), dtype=torch.float32, device=x.device) < self.keep
        return x * kept / self.keep

    def extra_repr(self) -> str:
        """Show the probability in the module's print-out."""
        return f"{self.probability:g}"
