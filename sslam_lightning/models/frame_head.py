"""From an encoded clip to class logits of every frame."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from sslam_lightning.types import Encoded, Grid


class FrameHead(nn.Module):
    """Layer norm and a linear layer on the mean over the mel bands of a frame: one prediction per column of patches.

    Its parameters are those of a head on whole clips, so either may start from the other's.

    Args:
        dim: width of the encoder.
        num_classes: number of logits of a frame.
    """

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"a frame head needs at least one class, got {num_classes}")
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.linear = nn.Linear(dim, num_classes)
        nn.init.trunc_normal_(self.linear.weight, std=0.02)
        nn.init.zeros_(self.linear.bias)

    def forward(self, encoded: Encoded, grid: Grid) -> Float[Tensor, "rows frames classes"]:
        """Class logits of every frame; ``grid`` is the field of patches that the tokens are."""
        columns = encoded.tokens.unflatten(1, (grid.time, grid.mel))
        return self.linear(self.norm(columns.mean(dim=2)))
