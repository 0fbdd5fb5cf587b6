"""Reconstruction of the hidden patches' own values (MAE, He et al., 2022, section 3; optional in EAT)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sslam_lightning.losses.squared_error import SquaredError
from sslam_lightning.types import PretrainOutput


def normalize_patches(patches: Float[Tensor, "*rows values"]) -> Float[Tensor, "*rows values"]:
    """Each patch to mean 0 and variance 1."""
    variance, mean = torch.var_mean(patches.float(), dim=-1, keepdim=True)
    return (patches - mean) * (variance + 1e-6).rsqrt()


@dataclass(frozen=True)
class ReconstructionLoss(SquaredError):
    """Squared error between a linear read-out of the decoder's output and the patch.

    Args:
        weight: of this loss in the total.
        beta: as in :class:`RegressionLoss`.
        scale: as in :class:`RegressionLoss`, where the width is the number of values in a patch. MAE-AST takes the mean.
        normalize: bring every patch to mean 0 and variance 1 first (MAE, EAT); MAE-AST does not.
    """

    normalize: bool = True

    def __call__(self, output: PretrainOutput) -> Float[Tensor, ""]:
        assert output.predictions.values is not None
        assert output.masked_values is not None
        return self.compare(output.predictions.values, output.masked_values)

    def compare(
        self, predictions: Float[Tensor, "rows hidden values"], patches: Float[Tensor, "rows hidden values"]
    ) -> Float[Tensor, ""]:
        """Summed over the patch's values times ``scale``, averaged over hidden patches."""
        num_hidden = predictions.shape[0] * predictions.shape[1]
        target = normalize_patches(patches) if self.normalize else patches
        return self.weighted_error(predictions, target) / num_hidden
