"""Positions told by what stands around a token (wav2vec 2.0, section 2; data2vec 2.0's deeper form)."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn


class ConvPositions(nn.Module):
    """A few grouped convolutions along the tokens, each followed by a layer norm without weights and a GELU.

    Args:
        dim: width of the tokens.
        depth: number of convolutions.
        width: tokens that all of them together look at; each gets ``width // depth``, at least 3.
        groups: channel groups.
    """

    def __init__(self, dim: int, depth: int = 5, width: int = 95, groups: int = 16) -> None:
        super().__init__()
        if dim % groups:
            raise ValueError(f"conv_positions: dim must be a multiple of groups, got {dim} and {groups}")
        kernel = max(3, width // depth)
        self.convs = nn.ModuleList(nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=groups) for _ in range(depth))

    def forward(
        self, tokens: Float[Tensor, "rows tokens dim"], padding: Bool[Tensor, "rows tokens"] | None = None
    ) -> Float[Tensor, "rows tokens dim"]:
        """What is to be added to the tokens; those where ``padding`` is True are as if they were not there."""
        x = tokens
        for conv in self.convs:
            if padding is not None:
                x = x.masked_fill(padding.unsqueeze(-1), 0.0)
            x = conv(x.transpose(1, 2))[..., : tokens.shape[1]].transpose(1, 2)  # an even kernel gives one too many
            x = F.gelu(F.layer_norm(x, x.shape[-1:]))
        return x
