"""Square chunks of patches of random size (SSAST, Gong et al., 2022; MAE-AST, arXiv 2203.16691, section 2.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from sslam_lightning.masking.sampler import RatioMask
from sslam_lightning.rng import fold_in, integers, uniform
from sslam_lightning.types import Grid

_TIMES, _MELS, _SIZES, _TIE_BREAKS = (int.from_bytes(name, "big") for name in (b"times", b"mels", b"sizes", b"ties"))


@dataclass(frozen=True)
class ChunkMask(RatioMask):
    """Chunks are put one after the other at random places, until ``mask_ratio`` of the patches is hidden.

    Every row draws the side of its chunks; the last chunk loses patches at random so that the count is exact. Chunks are
    cut at the border, and begin as far in front of it as they can while they still reach a patch, so that every patch is
    equally likely to lie under one. If all began inside the grid, the lowest mel and the first time step would be hidden
    half as often as the rest.

    The public code of MAE-AST draws one mask for a whole batch and counts patches in one line: a chunk that reaches the
    highest mel goes on at the lowest of the next time step. That hides all mels equally often, the first time steps less.

    Args:
        mask_ratio: share of the patches that is hidden.
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
        sides = self.smallest + integers(fold_in(keys, _SIZES), 1, self.largest - self.smallest + 1)
        # The smallest chunks cover a patch four times on average and leave one in fifty: hardly a mask of 0.9 needs more.
        num_chunks = math.ceil(4 * math.prod(length + self.smallest - 1 for length in grid) / self.smallest**2)
        in_front = sides - 1
        times = (uniform(fold_in(keys, _TIMES), num_chunks) * (grid.time + in_front)).long() - in_front
        mels = (uniform(fold_in(keys, _MELS), num_chunks) * (grid.freq + in_front)).long() - in_front
        step = torch.arange(self.largest, device=keys.device)
        time, mel = times[..., None, None] + step.unsqueeze(-1), mels[..., None, None] + step
        in_chunk = (step.unsqueeze(-1) < sides[..., None, None]) & (step < sides[..., None, None])
        inside = in_chunk & (time >= 0) & (time < grid.time) & (mel >= 0) & (mel < grid.freq)
        # Every patch by the first chunk that covers it; those that none does come last, in random order.
        patch = (time * grid.freq + mel).where(inside, 0).flatten(1)
        number = torch.arange(num_chunks, device=keys.device)[:, None, None].where(inside, num_chunks).flatten(1).float()
        first = torch.full((rows, num_patches), float(num_chunks), dtype=torch.float32, device=keys.device)
        first = first.scatter_reduce_(1, patch, number, "amin")
        order = first + uniform(fold_in(keys, _TIE_BREAKS), num_patches)
        chosen = order.topk(self.num_hidden(grid), dim=1, largest=False, sorted=False).indices
        return torch.zeros(rows, num_patches, dtype=torch.bool, device=keys.device).scatter_(1, chosen, True)
