"""Patches hidden independently of each other (MAE, He et al., 2022)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from sslam_lightning.masking.sampler import MaskSampler, choose_exactly
from sslam_lightning.random_streams import uniform
from sslam_lightning.types import Grid


@dataclass(frozen=True)
class UniformMask(MaskSampler):
    """Hides ``hidden_ratio`` of the patches, each with the same probability."""

    hidden_ratio: float = 0.75

    def __post_init__(self) -> None:
        if not 0.0 < self.hidden_ratio < 1.0:
            raise ValueError(f"masking: hidden_ratio must lie between 0 and 1, got {self.hidden_ratio}")

    def num_hidden(self, grid: Grid) -> int:
        """How many patches every row hides."""
        return grid.num_patches - int(grid.num_patches * (1 - self.hidden_ratio))

    def hidden(self, keys: Int[Tensor, "rows"], grid: Grid) -> Bool[Tensor, "rows patches"]:
        """True where a patch is hidden."""
        scores = uniform(keys, grid.num_patches)
        return choose_exactly(torch.zeros_like(scores, dtype=torch.bool), scores, self.num_hidden(grid))
