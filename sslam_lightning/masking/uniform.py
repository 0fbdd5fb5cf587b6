"""Patches hidden independently of each other (MAE, He et al., 2022)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from sslam_lightning.masking.sampler import RatioMask, choose_exactly
from sslam_lightning.rng import uniform
from sslam_lightning.types import Grid


@dataclass(frozen=True)
class UniformMask(RatioMask):
    """Hides ``mask_ratio`` of the patches, each with the same probability."""

    def hidden(self, keys: Int[Tensor, "rows"], grid: Grid) -> Bool[Tensor, "rows patches"]:
        """True where a patch is hidden."""
        scores = uniform(keys, grid.num_patches)
        return choose_exactly(torch.zeros_like(scores, dtype=torch.bool), scores, self.num_hidden(grid))
