"""The linear probe: one linear layer on a frozen encoder in evaluation mode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from sslam_lightning.evaluation.frozen import POOLINGS, FrozenBatch, check_poolings, poolings_of
from sslam_lightning.evaluation.probe import Probe
from sslam_lightning.evaluation.protocol import Task


@dataclass
class LinearProbe(Probe):
    """A linear layer on standardised features of whole clips.

    Every channel is brought to mean 0 and variance 1 over the training clips first: what a batch norm without weights does
    for MAE's linear probing (He et al., 2022, arXiv 2111.06377, appendix A.1), here with the statistics of all clips.

    Args:
        poolings: ``clip_token`` or ``mean`` of the tokens; chosen on validation clips.
        learning_rates, epochs, batch_size, weight_decay: see `Probe`.
    """

    level = "pooled"
    epochs: int = 100
    poolings: Sequence[str] = POOLINGS

    def __post_init__(self) -> None:
        super().__post_init__()
        check_poolings(self.poolings, "linear")

    def choices(self, task: Task) -> dict[str, Sequence[Any]]:
        return {"pooling": poolings_of(task.model, self.poolings)}

    def build(self, task: Task, **choice: Any) -> nn.Module:
        place = POOLINGS.index(choice["pooling"])
        return StandardisedLinear(task.train.pooled[:, place], task.num_classes, place)


class StandardisedLinear(nn.Module):
    """A linear layer on one of the pooled features, standardised by what it was built with."""

    def __init__(self, features: Float[Tensor, "clips dim"], num_classes: int, place: int = 0) -> None:
        super().__init__()
        self.place = place
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", features.mean(dim=0))
        self.register_buffer("scale", 1.0 / (features.std(dim=0, correction=0) + 1e-6))
        self.linear = nn.Linear(features.shape[1], num_classes)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, batch: FrozenBatch) -> Float[Tensor, "clips classes"]:
        """Class logits."""
        return self.linear((batch.features[:, self.place] - self.mean) * self.scale)
