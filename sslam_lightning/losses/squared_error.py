"""Squared errors, and the settings that losses made of them share."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from sslam_lightning.whole_numbers import check_whole_numbers

Scale = float | Literal["mean"] | None


@dataclass(frozen=True)
class SquaredError:
    """What losses of squared errors share (data2vec 2.0, arXiv 2212.07525, section 3.1); see :class:`RegressionLoss`."""

    weight: float = 1.0
    beta: float = 0.0
    scale: Scale = None

    def __post_init__(self) -> None:
        name = re.sub("(?<=[a-z])(?=[A-Z])", "_", type(self).__name__.removesuffix("Loss")).lower()  # as in a recipe
        check_weight(name, self.weight)
        check_whole_numbers(self, name)
        if not 0 <= self.beta < math.inf:
            raise ValueError(f"{name}: beta must be a number from 0 on, got {self.beta}")
        if isinstance(self.scale, (int, float)) and not 0 < self.scale < math.inf:
            raise ValueError(f"{name}: scale must be positive, got {self.scale}")

    def weighted_error(
        self, predictions: Float[Tensor, "*rows dim"], targets: Float[Tensor, "*rows dim"]
    ) -> Float[Tensor, ""]:
        """Squared error (smooth L1 if ``beta`` > 0) times ``scale`` and ``weight``, summed over all elements."""
        predictions, targets = predictions.float(), targets.float()
        if self.beta > 0:
            error = F.smooth_l1_loss(predictions, targets, reduction="sum", beta=self.beta)
        else:
            error = F.mse_loss(predictions, targets, reduction="sum")
        scale = self.scale
        if scale is None:
            scale = 1 / math.sqrt(predictions.shape[-1])
        elif scale == "mean":
            scale = 1 / predictions.shape[-1]
        return self.weight * (error * scale)


def check_weight(name: str, weight: float) -> None:
    """Refuse a loss that would be made larger.

    Raises:
        ValueError: naming the loss.
    """
    if not 0 <= weight < math.inf:
        raise ValueError(f"{name}: weight must be a number from 0 on, got {weight}")
