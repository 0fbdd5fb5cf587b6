"""Source-retention loss: in a mixture, keep both sources (SSLAM, ICLR 2025, section 3)."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from sslam_lightning.layers.gather import gather_tokens, scatter_tokens
from sslam_lightning.losses.squared_error import SquaredError
from sslam_lightning.types import PretrainOutput


def retained_targets(
    own: Float[Tensor, "batch tokens dim"],
    foreign: Float[Tensor, "batch shared dim"],
    shared_index: Int[Tensor, "batch shared"],
) -> Float[Tensor, "batch tokens dim"]:
    """The mixture's target: where both sounds are, the mean of both clean targets; elsewhere the clip's own.

    ``foreign`` is the target of the partner, which the teacher saw at the shared patches alone.
    """
    return scatter_tokens(own, (gather_tokens(own, shared_index) + foreign) / 2, shared_index)


@dataclass(frozen=True)
class SourceRetentionLoss(SquaredError):
    """Squared error between the decoder's output for the mixtures and both sources' targets.

    Args:
        weight: of this loss in the total. As in the public code the sum runs over the mixtures but is divided by the
            hidden patches of clean clips and mixtures, so that 2 makes it the mean over the mixtures.
        beta: as in :class:`RegressionLoss`.
        scale: as in :class:`RegressionLoss`.
    """

    weight: float = 2.0

    def __call__(self, output: PretrainOutput) -> Float[Tensor, ""]:
        assert output.targets is not None
        assert output.targets.retained is not None, "there are no mixtures"
        mixtures = slice(len(output.predictions.patches) // 2, None)  # rows behind those of the clean clips
        sources = gather_tokens(output.targets.retained, output.mask.ids_masked[mixtures])
        return self.compare(output.predictions.patches[mixtures], sources)

    def compare(
        self, predictions: Float[Tensor, "rows hidden dim"], targets: Float[Tensor, "rows hidden dim"]
    ) -> Float[Tensor, ""]:
        """Summed over the width and the mixtures' hidden patches, divided by twice their number."""
        num_hidden = 2 * predictions.shape[0] * predictions.shape[1]
        return self.weighted_error(predictions, targets) / num_hidden
