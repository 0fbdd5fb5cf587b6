"""DINO's cross entropy between student and teacher (Caron et al., 2021, section 3.1; optional in EAT)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sslam_lightning.losses.squared_error import check_weight
from sslam_lightning.types import PretrainOutput


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

    def build(self, dim: int) -> DINO:
        """The loss with its center, for CLS tokens of this width."""
        return DINO(self, dim)

    def compare(
        self, clip_tokens: Float[Tensor, "rows dim"], targets: Float[Tensor, "rows dim"], center: Float[Tensor, "1 dim"]
    ) -> Float[Tensor, ""]:
        """Summed over the width; summed or averaged over rows."""
        target = ((targets.float() - center) / self.teacher_temperature).softmax(dim=-1)
        predicted = (clip_tokens.float() / self.student_temperature).log_softmax(dim=-1)
        per_row = -(target * predicted).sum(dim=-1)
        return self.weight * (per_row.sum() if self.reduction == "sum" else per_row.mean())


class DINO(nn.Module):
    """:class:`DINOLoss` and its center, a moving average over optimizer steps.

    A checkpoint within a step holds the center that the step began with, and so do the batches that are repeated.
    """

    center: Float[Tensor, "1 dim"]

    def __init__(self, config: DINOLoss, dim: int) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("center", torch.zeros(1, dim, dtype=torch.float32))
        self._total: Float[Tensor, "dim+1"] | None = None  # of the step's targets, followed by their number

    def forward(self, output: PretrainOutput) -> Float[Tensor, ""]:
        if self.training and output.targets is not None:
            targets = output.targets.clip.float()
            total = torch.cat([targets.sum(dim=0), targets.new_full((1,), len(targets))])
            self._total = total if self._total is None else self._total + total
        return self.config.compare(output.predictions.cls, output.clip_targets, self.center)

    @torch.no_grad()
    def update_center(self) -> None:
        """Move the center towards the mean of the step's targets, over all ranks where there are several.

        All ranks have to call this after every optimizer step. A mean that is not finite leaves the center where it is.
        """
        total = self.center.new_zeros(self.center.shape[1] + 1) if self._total is None else self._total
        self._total = None
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(total)
        moved = torch.lerp((total[:-1] / total[-1].clamp(min=1)).unsqueeze(0), self.center, self.config.center_momentum)
        self.center = torch.where((total[-1] > 0) & moved.isfinite().all(), moved, self.center)
