"""From an encoded clip to class logits."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sslam_lightning.models.encoder import mean_of_tokens
from sslam_lightning.types import Encoded

Pooling = Literal["clip_token", "mean", "linear_softmax"]


class ClassificationHead(nn.Module):
    """Layer norm and a linear layer on the clip token, the mean of all patches, or every patch.

    Args:
        dim: width of the encoder.
        num_classes: number of logits.
        pooling: ``clip_token`` (EAT), ``mean`` over patches, or ``linear_softmax``: patch-wise probabilities p are pooled
            as sum(p^2) / sum(p), so that confident patches count more (Wang et al., 2019, arXiv 1810.09050).
    """

    def __init__(self, dim: int, num_classes: int, pooling: Pooling = "clip_token") -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"a classification head needs at least one class, got {num_classes}")
        self.pooling = pooling
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.linear = nn.Linear(dim, num_classes)
        nn.init.trunc_normal_(self.linear.weight, std=0.02)
        nn.init.zeros_(self.linear.bias)

    def forward(
        self, encoded: Encoded, padding: Bool[Tensor, "rows tokens"] | None = None
    ) -> Float[Tensor, "rows classes"]:
        """Class logits of every row; tokens where ``padding`` is True do not count."""
        if self.pooling == "clip_token":
            return self.linear(self.norm(encoded.clip))
        if self.pooling == "mean":
            return self.linear(self.norm(mean_of_tokens(encoded.tokens, padding)))
        logits = self.linear(self.norm(encoded.tokens)).float()
        if padding is not None:
            logits = logits.masked_fill(padding.unsqueeze(-1), -torch.inf)  # a probability of 0 is in neither sum
        return linear_softmax(logits)


def linear_softmax(logits: Float[Tensor, "rows tokens classes"]) -> Float[Tensor, "rows classes"]:
    """The logit of q = sum(p^2) / sum(p), exact for all p: log q - log(1 - q), and 1 - q = sum(p (1 - p)) / sum(p)."""
    log_p, log_not_p = F.logsigmoid(logits), F.logsigmoid(-logits)
    return torch.logsumexp(2 * log_p, dim=1) - torch.logsumexp(log_p + log_not_p, dim=1)
