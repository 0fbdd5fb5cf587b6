"""The teacher: an exponential moving average of the student's encoder (data2vec, Baevski et al., 2022, section 3.3)."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from sslam_lightning.models.encoder import Encoder


class Teacher(nn.Module):
    """A copy of an encoder that follows it slowly, learns nothing by itself, and always is in evaluation mode."""

    def __init__(self, student: Encoder) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(student).requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Teacher:
        """Stay in evaluation mode, whatever the model around does."""
        return super().train(False)

    @torch.no_grad()
    def follow(self, student: Encoder, decay: float) -> None:
        """Move every weight towards the student's: teacher = decay * teacher + (1 - decay) * student."""
        own: list[Tensor] = list(self.encoder.parameters())
        towards = [p.to(q.dtype) for p, q in zip(student.parameters(), own, strict=True)]
        torch._foreach_lerp_(own, towards, 1.0 - decay)
