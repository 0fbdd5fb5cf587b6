"""Mixtures without unmixed regions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from sslam_lightning.mixing.mixer import Mixer


@dataclass(frozen=True)
class FullMixing(Mixer):
    """Both sounds everywhere (SSLAM's ablation without partial mixing)."""

    def num_shared(self, num_time: int) -> int:
        """How many columns every mixture shares: all."""
        return num_time

    def shared(self, keys: Int[Tensor, "batch"], num_time: int) -> Bool[Tensor, "batch time"]:
        """True everywhere."""
        return torch.ones(keys.shape[0], num_time, dtype=torch.bool, device=keys.device)
