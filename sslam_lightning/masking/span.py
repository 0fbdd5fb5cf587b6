"""Runs of neighbouring tokens, for clips whose tokens stand in one line (data2vec 2.0, arXiv 2212.07525, section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from sslam_lightning.masking.sampler import RatioMask, choose_exactly
from sslam_lightning.random_streams import fold_in, integers, uniform
from sslam_lightning.types import Grid

_CENTRES, _TIE_BREAKS = (int.from_bytes(name, "big") for name in (b"centres", b"ties"))


@dataclass(frozen=True)
class SpanMask(RatioMask):
    """Spans of tokens are hidden; single tokens are then added or taken away at random until the count is exact.

    Args:
        hidden_ratio: share of the tokens that is hidden.
        span_tokens: length of a span.
        adjust: is added to the share that the spans are meant to cover, because they overlap.
    """

    hidden_ratio: float = 0.5
    span_tokens: int = 5
    adjust: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.span_tokens < 1:
            raise ValueError(f"masking: span_tokens must be at least 1, got {self.span_tokens}")

    def num_hidden(self, grid: Grid) -> int:
        """How many tokens every row hides."""
        return int(grid.num_patches * self.hidden_ratio)

    def hidden(self, keys: Int[Tensor, "rows"], grid: Grid) -> Bool[Tensor, "rows tokens"]:
        """True where a token is hidden."""
        return self._choose(keys, grid.num_patches, self.num_hidden(grid), self.hidden_ratio)

    def _choose(self, keys: Tensor, num_tokens: int, count: int, ratio: float) -> Tensor:
        num_spans = int(num_tokens * ((ratio + self.adjust) / self.span_tokens))
        centres = integers(fold_in(keys, _CENTRES), num_spans, num_tokens).unsqueeze(-1)
        covered = centres + torch.arange(self.span_tokens, device=keys.device) - self.span_tokens // 2
        # What would stick out is moved onto the border, as in the public code.
        covered = covered.clamp(0, num_tokens - 1).flatten(1)
        nothing = torch.zeros(keys.shape[0], num_tokens, dtype=torch.bool, device=keys.device)
        candidates = nothing.scatter_(1, covered, True)
        return choose_exactly(candidates, uniform(fold_in(keys, _TIE_BREAKS), num_tokens), count)


@dataclass(frozen=True)
class InverseSpanMask(SpanMask):
    """Spans of tokens stay visible, everything else is hidden; MAE-AST's retained spans are this with longer spans."""

    def num_hidden(self, grid: Grid) -> int:
        """How many tokens every row hides: here it is the visible ones whose number is rounded down."""
        return RatioMask.num_hidden(self, grid)

    def hidden(self, keys: Int[Tensor, "rows"], grid: Grid) -> Bool[Tensor, "rows tokens"]:
        """True where a token is hidden."""
        num_visible = grid.num_patches - self.num_hidden(grid)
        return ~self._choose(keys, grid.num_patches, num_visible, 1 - self.hidden_ratio)
