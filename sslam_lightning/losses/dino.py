"""DINO's cross entropy between student and teacher (Caron et al., 2021, section 3.1; optional in EAT)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from sslam_lightning.losses.squared_error import check_weight


@dataclass(frozen=True)
class DINOLoss:
    """Cross entropy between the sharpened, centered target and the student's CLS token, instead of the utterance loss.

    Args:
        weight: of this loss in the total.
        student_temperature: of the CLS token's softmax.
        teacher_temperature: of the target's softmax.
        center_momentum: of the moving average of target means, which keeps one dimension from taking over.
        reduction: over rows, as in :class:`UtteranceLoss`.
    """

    weight: float = 1.0
    student_temperature: float = 0.1
    teacher_temperature: float = 0.05
    center_momentum: float = 0.9
    reduction: Literal["sum", "mean"] = "mean"

    def __post_init__(self) -> None:
        check_weight("dino", self.weight)
        if not 0 <= self.center_momentum <= 1:
            raise ValueError(f"dino: center_momentum must lie between 0 and 1, got {self.center_momentum}")
        if min(self.student_temperature, self.teacher_temperature) <= 0:
            raise ValueError(
                f"dino: temperatures must be positive, got {self.student_temperature} and {self.teacher_temperature}"
            )

    def __call__(
        self, cls_tokens: Float[Tensor, "rows dim"], targets: Float[Tensor, "rows dim"], center: Float[Tensor, "1 dim"]
    ) -> Float[Tensor, ""]:
        """Summed over the width; summed or averaged over rows."""
        target = ((targets.float() - center) / self.teacher_temperature).softmax(dim=-1)
        predicted = (cls_tokens.float() / self.student_temperature).log_softmax(dim=-1)
        per_row = -(target * predicted).sum(dim=-1)
        return self.weight * (per_row.sum() if self.reduction == "sum" else per_row.mean())

    def updated_center(self, center: Float[Tensor, "1 dim"], targets: Float[Tensor, "rows dim"]) -> Float[Tensor, "1 dim"]:
        """The center after a step: it follows the mean of the targets, over all ranks where there are several."""
        total = torch.cat([targets.float().sum(dim=0), targets.new_tensor([targets.shape[0]], dtype=torch.float32)])
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(total)
        mean = torch.where(total[-1] > 0, total[:-1] / total[-1].clamp(min=1), center.squeeze(0))
        return torch.lerp(mean.unsqueeze(0), center, self.center_momentum)
