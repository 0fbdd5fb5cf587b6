"""Utterance loss: the CLS token predicts the clip (EAT, arXiv 2401.03497, section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from sslam_lightning.losses.squared_error import SquaredError
from sslam_lightning.types import PretrainOutput


@dataclass(frozen=True)
class UtteranceLoss(SquaredError):
    """Squared error between the student's CLS token and the mean of the teacher's targets over all patches.

    Args:
        weight: of this loss in the total.
        beta: as in :class:`RegressionLoss`.
        scale: as in :class:`RegressionLoss`.
        reduction: ``sum`` over the device's rows is what the public code computes: the effective weight is then the
            number of rows (clips x masks; 192 in EAT's recipe) and changes with the batch. ``mean`` does not depend on it.
        top_k_layers: how many of the teacher's layers make this target; None means as many as for the regression.
    """

    reduction: Literal["sum", "mean"] = "mean"
    top_k_layers: int | None = None

    def __call__(self, output: PretrainOutput) -> Float[Tensor, ""]:
        return self.compare(output.predictions.cls, output.clip_targets)

    def compare(self, cls_tokens: Float[Tensor, "rows dim"], targets: Float[Tensor, "rows dim"]) -> Float[Tensor, ""]:
        """Summed over the width; summed or averaged over rows."""
        error = self.weighted_error(cls_tokens, targets)
        return error if self.reduction == "sum" else error / cls_tokens.shape[0]
