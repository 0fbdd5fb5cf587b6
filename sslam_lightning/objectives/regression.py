"""Masked regression to the teacher (data2vec 2.0, arXiv 2212.07525, section 3.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Scale = float | Literal["mean"] | None


def squared_error(
    guesses: Float[Tensor, "*rows dim"], targets: Float[Tensor, "*rows dim"], beta: float, scale: Scale
) -> Float[Tensor, ""]:
    """Sum over all elements of the squared error (smooth L1 if ``beta`` > 0) times ``scale``: see :class:`Regression`."""
    guesses, targets = guesses.float(), targets.float()
    if beta > 0:
        error = F.smooth_l1_loss(guesses, targets, reduction="sum", beta=beta)
    else:
        error = F.mse_loss(guesses, targets, reduction="sum")
    if scale is None:
        scale = 1 / math.sqrt(guesses.shape[-1])
    elif scale == "mean":
        scale = 1 / guesses.shape[-1]
    return error * scale


@dataclass(frozen=True)
class Regression:
    """Squared error between the decoder's output and the teacher's targets at the hidden patches.

    Args:
        weight: of this loss in the total.
        beta: where smooth L1 turns from a parabola into a line; 0 means squared error.
        scale: factor on every element; None means 1 / sqrt(dim), and ``mean`` 1 / dim, which makes of the sum over the
            width the mean.
    """

    weight: float = 1.0
    beta: float = 0.0
    scale: Scale = None

    def __call__(
        self, guesses: Float[Tensor, "rows hidden dim"], targets: Float[Tensor, "rows hidden dim"]
    ) -> Float[Tensor, ""]:
        """Summed over the width, averaged over hidden patches."""
        num_hidden = guesses.shape[0] * guesses.shape[1]
        return self.weight * squared_error(guesses, targets, self.beta, self.scale) / num_hidden
