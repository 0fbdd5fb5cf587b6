"""Attention with linear biases for rows and fields of tokens (ALiBi, Press et al., 2022; data2vec 2.0, section 3.2)."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sslam_lightning.types import Grid


class Alibi(nn.Module):
    """Makes far tokens count less: every head subtracts a multiple of the distance from its attention scores.

    The distance is that of city blocks, so that tokens in one line are the field one token high. Every head multiplies
    its slope by a scale of its own; a scale below zero counts as zero.

    Args:
        num_heads: attention heads.
        learned: whether the scales are trained; otherwise they stay 1.
    """

    slopes: Tensor

    def __init__(self, num_heads: int, learned: bool = True) -> None:
        super().__init__()
        # Shaped as in released checkpoints: layers, rows, heads, queries, keys.
        self.scale = nn.Parameter(torch.ones(1, 1, num_heads, 1, 1), requires_grad=learned)
        # No file has them, so they are numbers even where weights that a file has are only shapes (on the meta device).
        slopes = torch.tensor(_slopes(num_heads), dtype=torch.float32, device="cpu")
        self.register_buffer("slopes", slopes.view(-1, 1, 1), persistent=False)

    def forward(self, grid: Grid, index: Int[Tensor, "rows kept"] | None = None) -> Float[Tensor, "rows heads kept kept"]:
        """The bias between the tokens at ``index``, or between all tokens of the field (one row for all clips)."""
        if index is None:
            index = torch.arange(grid.num_patches, device=self.scale.device).unsqueeze(0)
        distance = _distance(index // grid.freq) + _distance(index % grid.freq)
        return -(self.slopes * self.scale.clamp_min(0).squeeze(0)) * distance.unsqueeze(1)


def _distance(place: Int[Tensor, "rows kept"]) -> Int[Tensor, "rows kept kept"]:
    return (place.unsqueeze(-1) - place.unsqueeze(-2)).abs()


def _slopes(num_heads: int) -> list[float]:
    """A geometric sequence down to 2^-8; other numbers of heads than powers of two fill in from the next longer one."""
    whole = 2 ** int(math.log2(num_heads))
    ratio = 2.0 ** -(8.0 / whole)
    slopes = [ratio ** (head + 1) for head in range(whole)]
    return slopes + _slopes(2 * whole)[0::2][: num_heads - whole] if whole < num_heads else slopes
