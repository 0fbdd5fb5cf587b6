"""Block masks of data2vec 2.0 (arXiv 2212.07525, section 3.3) and EAT (arXiv 2401.03497, section 3.2).

Blocks are put around random centres and clamped at the border; then single patches are added or taken away at random
until the count is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from sslam_lightning.masking.sampler import RatioMask, choose_exactly
from sslam_lightning.random_streams import fold_in, integers, uniform
from sslam_lightning.types import Grid

_CENTRES, _TIE_BREAKS, _SHAPE = (int.from_bytes(name, "big") for name in (b"centres", b"ties", b"shape"))


@dataclass(frozen=True)
class BlockMask(RatioMask):
    """Squares of patches are hidden.

    Args:
        hidden_ratio: share of the patches that is hidden.
        block_patches: side of the squares.
        adjust: is added to the share that the squares are meant to cover, because they overlap.
    """

    hidden_ratio: float = 0.8
    block_patches: int = 5
    adjust: float = 0.07

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.block_patches < 1:
            raise ValueError(f"masking: block_patches must be at least 1, got {self.block_patches}")

    def num_hidden(self, grid: Grid) -> int:
        """How many patches every row hides."""
        return int(grid.num_patches * self.hidden_ratio)

    def hidden(self, keys: Int[Tensor, "rows"], grid: Grid) -> Bool[Tensor, "rows patches"]:
        """True where a patch is hidden."""
        return self._choose(keys, grid, self.num_hidden(grid), self.hidden_ratio)

    def _choose(self, keys: Tensor, grid: Grid, count: int, ratio: float) -> Tensor:
        covered = self._cover(keys, grid, ratio)
        return choose_exactly(covered, uniform(fold_in(keys, _TIE_BREAKS), grid.num_patches), count)

    def _cover(self, keys: Tensor, grid: Grid, ratio: float) -> Tensor:
        return self._cover_with(keys, grid, ratio, self.block_patches, self.block_patches)

    def _cover_with(self, keys: Tensor, grid: Grid, ratio: float, num_time: int, num_mel: int) -> Tensor:
        """The patches under blocks of ``num_time`` x ``num_mel`` patches around random centres."""
        num_centres = int(grid.num_patches * ((ratio + self.adjust) / (num_time * num_mel)))
        centres = integers(fold_in(keys, _CENTRES), num_centres, grid.num_patches).unsqueeze(-1)
        offset = self.block_patches // 2
        time = centres // grid.mel + torch.arange(num_time, device=keys.device) - offset
        mel = centres % grid.mel + torch.arange(num_mel, device=keys.device) - offset
        # What would stick out is moved onto the border, as in the public code.
        time, mel = time.clamp(0, grid.time - 1), mel.clamp(0, grid.mel - 1)
        covered = (time.unsqueeze(-1) * grid.mel + mel.unsqueeze(-2)).flatten(1)
        nothing = torch.zeros(keys.shape[0], grid.num_patches, dtype=torch.bool, device=keys.device)
        return nothing.scatter_(1, covered, True)


@dataclass(frozen=True)
class InverseBlockMask(BlockMask):
    """Squares of patches stay visible, everything else is hidden: the mask of EAT and SSLAM."""

    def num_hidden(self, grid: Grid) -> int:
        """How many patches every row hides: here it is the visible ones whose number is rounded down."""
        return RatioMask.num_hidden(self, grid)

    def hidden(self, keys: Int[Tensor, "rows"], grid: Grid) -> Bool[Tensor, "rows patches"]:
        """True where a patch is hidden."""
        num_visible = grid.num_patches - self.num_hidden(grid)
        return ~self._choose(keys, grid, num_visible, 1 - self.hidden_ratio)


@dataclass(frozen=True)
class FlexibleInverseBlockMask(InverseBlockMask):
    """As :class:`InverseBlockMask`, but every row draws one of three shapes of about the same area."""

    shapes: tuple[tuple[int, int], ...] = ((6, 4), (5, 5), (8, 3))  # (time, mel) in patches

    def _cover(self, keys: Tensor, grid: Grid, ratio: float) -> Tensor:
        covers = torch.stack([self._cover_with(keys, grid, ratio, *shape) for shape in self.shapes])
        drawn = integers(fold_in(keys, _SHAPE), 1, len(self.shapes)).squeeze(-1)
        return covers[drawn, torch.arange(keys.shape[0], device=keys.device)]
