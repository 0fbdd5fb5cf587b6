"""InfoNCE among the hidden patches of one clip (van den Oord et al., 2018; SSAST, 2022; MAE-AST, arXiv 2203.16691)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sslam_lightning.losses.squared_error import check_weight
from sslam_lightning.types import PretrainOutput


@dataclass(frozen=True)
class InfoNCE:
    """Cross entropy of telling a hidden patch from the other hidden patches of its clip.

    Args:
        weight: of this loss in the total.
    """

    weight: float = 1.0

    def __post_init__(self) -> None:
        check_weight("info_nce", self.weight)

    def __call__(self, output: PretrainOutput) -> Float[Tensor, ""]:
        assert output.predictions.contrast is not None
        assert output.masked_values is not None
        return self.compare(output.predictions.contrast, output.masked_values)

    def compare(
        self, predictions: Float[Tensor, "rows hidden values"], patches: Float[Tensor, "rows hidden values"]
    ) -> Float[Tensor, ""]:
        """Averaged over all hidden patches; scores are the scalar products of guess and patch."""
        with torch.autocast(predictions.device.type, enabled=False):  # which would take the product in half precision
            scores = predictions.float() @ patches.float().transpose(1, 2)
        return -self.weight * torch.log_softmax(scores, dim=-1).diagonal(dim1=1, dim2=2).mean()
