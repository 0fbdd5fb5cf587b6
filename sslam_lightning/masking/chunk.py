"""Square chunks of patches of random size (SSAST, Gong et al., 2022; MAE-AST, arXiv 2203.16691, section 2.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from sslam_lightning.masking.sampler import RatioMask
from sslam_lightning.random_streams import fold_in, integers, uniform
from sslam_lightning.types import Grid

_CORNERS, _SIZES, _TIE_BREAKS = (int.from_bytes(name, "big") for name in (b"corners", b"sizes", b"ties"))


@dataclass(frozen=True)
class ChunkMask(RatioMask):
    """Chunks are put one after the other at random places, until ``hidden_ratio`` of the patches is hidden.

    Every row draws the side of its chunks; the last chunk loses patches at random so that the count is exact. The public
    code draws one mask for a whole batch, and its chunks go on at the next time step where they reach the highest mel;
    here they end there.

    Args:
        hidden_ratio: share of the patches that is hidden.
        smallest: side of the smallest chunks.
        largest: side of the largest ones.
    """

    smallest: int = 3
    largest: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.smallest <= self.largest:
            raise ValueError(f"masking: 1 <= smallest <= largest must hold, got {self.smallest} and {self.largest}")

    def hidden(self, keys: Int[Tensor, "rows"], grid: Grid) -> Bool[Tensor, "rows patches"]:
        """True where a patch is hidden."""
        rows, num_patches = keys.shape[0], grid.num_patches
        # Of so many chunks, hardly one in a thousand masks needs the last.
        num_chunks = max(1, 4 * num_patches // self.smallest**2)
        corners = integers(fold_in(keys, _CORNERS), num_chunks, num_patches)[..., None, None]
        sizes = self.smallest + integers(fold_in(keys, _SIZES), 1, self.largest - self.smallest + 1)[..., None, None]
        step = torch.arange(self.largest, device=keys.device)
        time, mel = corners // grid.mel + step.unsqueeze(-1), corners % grid.mel + step
        inside = (time < grid.time) & (mel < grid.mel) & (step.unsqueeze(-1) < sizes) & (step < sizes)
        # Every patch by the first chunk that covers it; those that none does come last, in random order.
        patch = (time * grid.mel + mel).where(inside, corners).flatten(1)
        number = torch.arange(num_chunks, device=keys.device)[:, None, None].expand_as(inside).flatten(1).float()
        first = torch.full((rows, num_patches), float(num_chunks), device=keys.device)
        first = first.scatter_reduce_(1, patch, number, "amin")
        order = first + uniform(fold_in(keys, _TIE_BREAKS), num_patches)
        chosen = order.topk(self.num_hidden(grid), dim=1, largest=False, sorted=False).indices
        return torch.zeros(rows, num_patches, dtype=torch.bool, device=keys.device).scatter_(1, chosen, True)
