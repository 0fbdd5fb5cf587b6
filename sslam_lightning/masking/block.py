"""Block masks of data2vec 2.0 (arXiv 2212.07525, section 3.3) and EAT (arXiv 2401.03497, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from sslam_lightning.masking.sampler import as_clips_and_masks
from sslam_lightning.masking.shapes import ShapesMask, cover
from sslam_lightning.rng import fold_in, integers
from sslam_lightning.types import Grid

_SHAPE = int.from_bytes(b"shape", "big")


@dataclass(frozen=True)
class _Blocks(ShapesMask):
    """Squares of patches.

    Args:
        mask_ratio: share of the patches that is hidden.
        block_size: side of the squares.
        mask_ratio_adjust: is added to the share that the squares are meant to cover, because they overlap.
    """

    mask_ratio: float = 0.8
    block_size: int = 5
    mask_ratio_adjust: float = 0.07

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.block_size < 1:
            raise ValueError(f"masking: block_size must be at least 1, got {self.block_size}")
        if not 0 <= self.mask_ratio_adjust < 1:
            raise ValueError(f"masking: mask_ratio_adjust must lie in [0, 1), got {self.mask_ratio_adjust}")

    def covered(self, keys: Int[Tensor, "clips *masks"], grid: Grid, share: float) -> Bool[Tensor, "rows patches"]:
        """True under the squares."""
        square = (self.block_size, self.block_size)
        return cover(keys, grid, share + self.mask_ratio_adjust, square, self.block_size // 2)


class BlockMask(_Blocks):
    """Squares of patches are hidden."""


class InverseBlockMask(_Blocks):
    """Squares of patches stay visible, everything else is hidden: the mask of EAT and SSLAM."""

    shapes_stay_visible = True


@dataclass(frozen=True)
class FlexibleInverseBlockMask(_Blocks):
    """As :class:`InverseBlockMask`, but a clip draws one of three shapes of about the same area for all of its masks."""

    shapes_stay_visible = True
    shapes: tuple[tuple[int, int], ...] = ((6, 4), (5, 5), (8, 3))  # (time, mel) in patches

    def hidden_per_clip(self, keys: Int[Tensor, "clips masks"], grid: Grid) -> Bool[Tensor, "rows patches"]:
        """True where a patch is hidden."""
        return self.hidden(keys, grid)

    def covered(self, keys: Int[Tensor, "clips *masks"], grid: Grid, share: float) -> Bool[Tensor, "rows patches"]:
        """True under rectangles of the clip's shape, which the key of its first mask draws."""
        share, offset = share + self.mask_ratio_adjust, self.block_size // 2
        covers = torch.stack([cover(keys, grid, share, shape, offset) for shape in self.shapes])
        keys = as_clips_and_masks(keys)
        drawn = integers(fold_in(keys[:, :1], _SHAPE), 1, len(self.shapes)).squeeze(-1).expand_as(keys).flatten()
        return covers[drawn, torch.arange(len(drawn), device=keys.device)]
