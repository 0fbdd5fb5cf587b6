"""The attentive probe: a learned query chooses among the tokens of a frozen encoder's last layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sslam_lightning.evaluation.frozen import FrozenBatch
from sslam_lightning.evaluation.probe import Probe
from sslam_lightning.evaluation.protocol import Task


@dataclass
class AttentiveProbe(Probe):
    """Cross-attention with one learned query per head, then a linear layer.

    Attentive probing as of CAE (Chen et al., 2022, arXiv 2202.03026, section 4.1) and V-JEPA (Bardes et al., 2024, arXiv
    2404.08471), without their feed-forward layer.

    Args:
        num_heads: queries, each with its own keys and values; the encoder's width is a multiple of it.
        learning_rates, epochs, batch_size, weight_decay: see `Probe`.
    """

    level = "layers"
    learning_rates: Sequence[float] = (3e-4, 1e-3, 3e-3, 1e-2)
    epochs: int = 30
    batch_size: int = 32
    num_heads: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_heads < 1:
            raise ValueError(f"attentive: num_heads must be at least 1, got {self.num_heads}")

    def build(self, task: Task, **choice: Any) -> nn.Module:
        return AttentivePooling(task.model.encoder.dim, task.num_classes, self.num_heads)


class AttentivePooling(nn.Module):
    """Layer norm, keys and values of every token, one query a head, and a linear layer on what they gather.

    Raises:
        ValueError: if the heads do not divide the width.
    """

    def __init__(self, dim: int, num_classes: int, num_heads: int = 1) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"attentive: the encoder's width {dim} is no multiple of num_heads {num_heads}")
        self.num_heads, self.scale = num_heads, (dim // num_heads) ** -0.5
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.query = nn.Parameter(torch.randn(num_heads, dim // num_heads) * 0.02)
        self.keys, self.values = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.linear = nn.Linear(dim, num_classes)

    def forward(self, batch: FrozenBatch) -> Float[Tensor, "clips classes"]:
        """Class logits, from the tokens of the last layer without the clip token."""
        tokens = self.norm(batch.features[:, -1, 1:])
        weights = self.attention(tokens, batch.padding)
        values = self.values(tokens).unflatten(2, (self.num_heads, -1))
        return self.linear(torch.einsum("cht,cthd->chd", weights, values).flatten(1))

    def attention(
        self, tokens: Float[Tensor, "clips tokens dim"], padding: Bool[Tensor, "clips tokens"] | None = None
    ) -> Float[Tensor, "clips heads tokens"]:
        """How much each query takes of every token; none of padding, 1 in total."""
        keys = self.keys(tokens).unflatten(2, (self.num_heads, -1))
        scores = torch.einsum("hd,cthd->cht", self.query, keys) * self.scale
        if padding is not None:
            scores = scores.masked_fill(padding.unsqueeze(1), -torch.inf)
        return scores.softmax(dim=2)
