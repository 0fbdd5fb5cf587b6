"""What masks made of blocks or spans share (data2vec 2.0, arXiv 2212.07525, section 3.3)."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from sslam_lightning.masking.sampler import RatioMask, choose_exactly
from sslam_lightning.rng import fold_in, integers, uniform
from sslam_lightning.types import Grid

_CENTERS, _TIE_BREAKS = (int.from_bytes(name, "big") for name in (b"centers", b"ties"))


@dataclass(frozen=True)
class ShapesMask(RatioMask):
    """Shapes around random centers; then single patches are added or taken away at random until the count is exact."""

    shapes_stay_visible: ClassVar[bool] = False  # and everything else is hidden; else the shapes are

    @abstractmethod
    def covered(self, keys: Int[Tensor, "clips *masks"], grid: Grid, share: float) -> Bool[Tensor, "rows patches"]:
        """True where a patch lies under a shape; together they are to cover about ``share`` of the patches."""

    def num_hidden(self, grid: Grid) -> int:
        """How many patches every row hides: what is rounded down is the number of those that the shapes are to cover."""
        return super().num_hidden(grid) if self.shapes_stay_visible else int(grid.num_patches * self.mask_ratio)

    def hidden(self, keys: Int[Tensor, "clips *masks"], grid: Grid) -> Bool[Tensor, "rows patches"]:
        """True where a patch is hidden."""
        count, share = self.num_hidden(grid), self.mask_ratio
        if self.shapes_stay_visible:
            count, share = grid.num_patches - count, 1 - share
        ties = uniform(fold_in(keys.flatten(), _TIE_BREAKS), grid.num_patches)
        chosen = choose_exactly(self.covered(keys, grid, share), ties, count)
        return ~chosen if self.shapes_stay_visible else chosen


def cover(
    keys: Int[Tensor, "clips *masks"], grid: Grid, share: float, shape: tuple[int, int], offset: int
) -> Bool[Tensor, "rows patches"]:
    """True under as many rectangles of one shape (time, mel) as have ``share`` of the grid's area.

    Each begins ``offset`` patches before a random center, in both directions. They may overlap, and what would stick out of
    the grid is moved onto its border, as in the public code.
    """
    (num_time, num_mel), keys = shape, keys.flatten()
    num_centers = int(grid.num_patches * (share / (num_time * num_mel)))
    centers = integers(fold_in(keys, _CENTERS), num_centers, grid.num_patches).unsqueeze(-1)
    time = centers // grid.freq + torch.arange(num_time, device=keys.device) - offset
    mel = centers % grid.freq + torch.arange(num_mel, device=keys.device) - offset
    time, mel = time.clamp(0, grid.time - 1), mel.clamp(0, grid.freq - 1)
    patches = (time.unsqueeze(-1) * grid.freq + mel.unsqueeze(-2)).flatten(1)
    nothing = torch.zeros(keys.shape[0], grid.num_patches, dtype=torch.bool, device=keys.device)
    return nothing.scatter_(1, patches, True)
