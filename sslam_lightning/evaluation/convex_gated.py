"""Convex gated probing (BAT, arXiv 2602.16305): all layers, weighed, and how near patches come to learned prototypes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sslam_lightning.evaluation.frozen import FrozenBatch
from sslam_lightning.evaluation.probe import Probe, ProbeModule
from sslam_lightning.evaluation.protocol import Task


class ConvexGatedProbe(Probe):
    """Weights of the layers, prototypes and a linear layer learn; see `ConvexGate`.

    Args:
        learning_rates: peak rates to choose from.
        epochs: over the training clips.
        batch_size: clips of an update.
        weight_decay: decoupled, of matrices.
        num_prototypes: 10 000 as published; memory and time of an update are proportional to it.
    """

    level = "layers"

    def __init__(
        self,
        learning_rates: Sequence[float] = (3e-3, 1e-2, 3e-2),
        epochs: int = 30,
        batch_size: int = 32,
        weight_decay: float = 0.0,
        num_prototypes: int = 10_000,
    ) -> None:
        super().__init__(learning_rates, epochs, batch_size, weight_decay)
        if num_prototypes < 1:
            raise ValueError(f"convex_gated: num_prototypes must be at least 1, got {num_prototypes}")
        self.num_prototypes = num_prototypes

    def build(self, task: Task, **choice: Any) -> nn.Module:
        """For the encoder's width and depth."""
        encoder = task.model.encoder
        return ConvexGate(encoder.dim, encoder.depth, self.num_prototypes, task.num_classes)


class ConvexGate(ProbeModule):
    """Softmax-weighted sum of all layers' L2-normalised tokens; cosine similarity of each to K prototypes; the smallest and
    the largest over the patches and the clip token's own; a linear layer on those 3 K numbers.
    """

    def __init__(self, dim: int, depth: int, num_prototypes: int, num_classes: int) -> None:
        super().__init__()
        self.layer_logits = nn.Parameter(torch.zeros(depth))
        self.prototypes = nn.Parameter(torch.randn(num_prototypes, dim))
        self.linear = nn.Linear(3 * num_prototypes, num_classes)

    def forward(self, batch: FrozenBatch) -> Float[Tensor, "clips classes"]:
        """Class logits."""
        return self.linear(self.gathered(batch.features, batch.padding))

    def gathered(
        self,
        layers: Float[Tensor, "clips layers clip_and_tokens dim"],
        padding: Bool[Tensor, "clips tokens"] | None = None,
    ) -> Float[Tensor, "clips numbers"]:
        """Minima over the patches, then maxima, then the clip token's similarities; padding does not count."""
        mixed = torch.einsum("l,cltd->ctd", self.layer_logits.softmax(dim=0), F.normalize(layers, dim=3))
        mixed, prototypes = F.normalize(mixed, dim=2), F.normalize(self.prototypes, dim=1)
        patches = mixed[:, 1:] @ prototypes.T
        low = high = patches
        if padding is not None:
            low = patches.masked_fill(padding.unsqueeze(2), torch.inf)
            high = patches.masked_fill(padding.unsqueeze(2), -torch.inf)
        # Not amin and amax: their gradients are shared out among equals, at twice the time.
        return torch.cat([low.min(dim=1).values, high.max(dim=1).values, mixed[:, 0] @ prototypes.T], dim=1)
