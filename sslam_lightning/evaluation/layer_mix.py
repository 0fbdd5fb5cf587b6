"""A linear probe on a learned mixture of all layers (``linear_cgp`` of BAT's public code)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sslam_lightning.evaluation.convex_gated import Summary, summary_of
from sslam_lightning.evaluation.frozen import FrozenBatch
from sslam_lightning.evaluation.probe import Probe
from sslam_lightning.evaluation.protocol import Task
from sslam_lightning.models.encoder import mean_of_tokens


@dataclass
class LayerMixProbe(Probe):
    """Weights of the layers, a layer norm and a linear layer learn; see `LayerMix`.

    Args:
        learning_rates, epochs, batch_size, weight_decay: see `Probe`.
    """

    level = "layers"
    learning_rates: Sequence[float] = (3e-4, 1e-3, 3e-3)
    epochs: int = 30
    batch_size: int = 32

    def build(self, task: Task, **choice: Any) -> nn.Module:
        encoder = task.model.encoder
        return LayerMix(encoder.dim, encoder.depth, task.num_classes, summary_of(encoder))


class LayerMix(nn.Module):
    """Softmax-weighted sum of all layers' clip tokens or means of patches, a layer norm, and a linear layer.

    Args:
        dim: width of the tokens.
        depth: number of layers.
        num_classes: number of logits.
        summary: what of every layer is mixed.
        norm: whether there is a layer norm, as in the published configurations.
    """

    def __init__(self, dim: int, depth: int, num_classes: int, summary: Summary = "clip_token", norm: bool = True) -> None:
        super().__init__()
        self.summary = summary
        self.layer_logits = nn.Parameter(torch.zeros(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6) if norm else nn.Identity()
        self.linear = nn.Linear(dim, num_classes)

    def forward(self, batch: FrozenBatch) -> Float[Tensor, "clips classes"]:
        mixed = torch.einsum("l,cltd->ctd", self.layer_logits.softmax(dim=0), batch.features)
        clip = mixed[:, 0] if self.summary == "clip_token" else mean_of_tokens(mixed[:, 1:], batch.padding)
        return self.linear(self.norm(clip))
