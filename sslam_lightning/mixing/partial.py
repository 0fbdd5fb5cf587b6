"""SSLAM's partial mixtures: two regions of every clip stay as they are (ICLR 2025, section 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from sslam_lightning.mixing.mixer import Mixer
from sslam_lightning.rng import fold_in, uniform

_FIRST, _SECOND = (int.from_bytes(name, "big") for name in (b"region1", b"region2"))


@dataclass(frozen=True)
class PartialMixing(Mixer):
    """Mixes a clip with a foreign one outside of two unmixed regions.

    The published numbers are for 64 columns (1024 frames): regions of 15 columns (240 frames), the first starting in
    the first half, the second behind it and at column 48 at the latest. Clips of other lengths use the same shares.

    Args:
        regions: ``per_clip`` draws the regions for every clip; ``per_batch`` draws one pair for all clips of a device's
            batch, as the public code does.
    """

    regions: Literal["per_clip", "per_batch"] = "per_clip"

    def __post_init__(self) -> None:
        if self.regions not in ("per_clip", "per_batch"):
            raise ValueError(f"mixing: regions must be per_clip or per_batch, got {self.regions!r}")

    def fits(self, num_time: int) -> bool:
        """Whether clips of so many columns hold two regions and something to mix."""
        return num_time >= 3

    def num_shared(self, num_time: int) -> int:
        """How many columns every mixture shares: those outside of two regions."""
        return num_time - 2 * _region_width(num_time)

    def shared(self, keys: Int[Tensor, "batch"], num_time: int) -> Bool[Tensor, "batch time"]:
        """True for the columns outside of both regions.

        Raises:
            ValueError: if the clips are too short to hold two regions and something to mix.
        """
        if not self.fits(num_time):
            raise ValueError(f"partial mixing needs clips of at least 3 columns of patches, got {num_time}")
        if self.regions == "per_batch":
            keys = keys[:1].expand_as(keys)
        width = _region_width(num_time)
        latest_second = max(num_time * 48 // 64, num_time // 2 + width - 1)
        first = self._draw(fold_in(keys, _FIRST), torch.zeros_like(keys), num_time // 2)
        second = self._draw(fold_in(keys, _SECOND), first + width, latest_second + 1)
        column = torch.arange(num_time, device=keys.device)
        starts = torch.stack([first, second], dim=1).unsqueeze(-1)
        return ~((column >= starts) & (column < starts + width)).any(dim=1)

    @staticmethod
    def _draw(keys: Tensor, low: Tensor, high: int) -> Tensor:
        """A whole number in [low, high) per key."""
        return low + (uniform(keys, 1).squeeze(-1) * (high - low)).long()


def _region_width(num_time: int) -> int:
    """Columns of one unmixed region: 15 of 64."""
    return max(1, num_time * 15 // 64)
