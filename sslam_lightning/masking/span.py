"""Runs of neighboring tokens, for clips whose tokens stand in one line (data2vec 2.0, arXiv 2212.07525, section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Int
from torch import Tensor

from sslam_lightning.masking.shapes import ShapesMask, cover
from sslam_lightning.types import Grid


@dataclass(frozen=True)
class _Spans(ShapesMask):
    """Spans of tokens.

    Args:
        mask_ratio: share of the tokens that is hidden.
        span_tokens: length of a span.
        mask_ratio_adjust: is added to the share that the spans are meant to cover, because they overlap.
    """

    mask_ratio: float = 0.5
    span_tokens: int = 5
    mask_ratio_adjust: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.span_tokens < 1:
            raise ValueError(f"masking: span_tokens must be at least 1, got {self.span_tokens}")
        if not 0 <= self.mask_ratio_adjust < 1:
            raise ValueError(f"masking: mask_ratio_adjust must lie in [0, 1), got {self.mask_ratio_adjust}")

    def covered(self, keys: Int[Tensor, "clips *masks"], grid: Grid, share: float) -> Bool[Tensor, "rows tokens"]:
        """True under the spans."""
        line = Grid(grid.num_patches, 1)
        return cover(keys, line, share + self.mask_ratio_adjust, (self.span_tokens, 1), self.span_tokens // 2)


class SpanMask(_Spans):
    """Spans of tokens are hidden; single tokens are then added or taken away at random until the count is exact."""


class InverseSpanMask(_Spans):
    """Spans of tokens stay visible, everything else is hidden; MAE-AST's spans are these, and longer."""

    shapes_stay_visible = True
