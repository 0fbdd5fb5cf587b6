"""Masked regression to the teacher (data2vec 2.0, arXiv 2212.07525, section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from sslam_lightning.losses.squared_error import SquaredError
from sslam_lightning.types import PretrainOutput


@dataclass(frozen=True)
class RegressionLoss(SquaredError):
    """Squared error between the decoder's output and the teacher's targets at the hidden patches.

    Args:
        weight: of this loss in the total.
        beta: where smooth L1 turns from a parabola into a line; 0 means squared error.
        scale: factor on every element; None means 1 / sqrt(dim), and ``mean`` 1 / dim, which makes of the sum over the
            width the mean.
    """

    def __call__(self, output: PretrainOutput) -> Float[Tensor, ""]:
        assert output.masked_targets is not None, "there is no teacher"
        return self.compare(output.predictions.patches, output.masked_targets)

    def compare(
        self, predictions: Float[Tensor, "rows hidden dim"], targets: Float[Tensor, "rows hidden dim"]
    ) -> Float[Tensor, ""]:
        """Summed over the width, averaged over hidden patches."""
        num_hidden = predictions.shape[0] * predictions.shape[1]
        return self.weighted_error(predictions, targets) / num_hidden
