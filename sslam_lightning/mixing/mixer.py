"""What every mixer is: it chooses a partner for each clip, and the columns of patches that hold both sounds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sslam_lightning.types import Mixture


@dataclass(frozen=True)
class Mixer(ABC):
    """Puts a mixture behind every clean clip (SSLAM, ICLR 2025, section 3).

    Args:
        partner: ``previous`` mixes a clip with the one before it in the device's batch, as published. ``neighbor`` swaps
            within pairs (0 with 1, 2 with 3, ...), so that a batch may be cut in halves, for two devices, without
            changing any mixture.
        padding: of clips of different lengths. ``covers`` takes it for sound, as published: normalized, Kaldi's log-mels
            have padding that is louder than most sound (0.467 with AudioSet's mean and std), so that behind the end of
            the shorter clip the mixture hardly tells what the longer one holds. ``gives_way`` makes the mixture there
            the longer clip. Clips of one length are mixed alike by both.
    """

    partner: Literal["previous", "neighbor"] = "previous"
    padding: Literal["covers", "gives_way"] = field(default="covers", kw_only=True)

    def fits(self, num_time: int) -> bool:
        """Whether clips of so many columns can be mixed."""
        return num_time > 0

    @abstractmethod
    def num_shared(self, num_time: int) -> int:
        """How many columns every mixture shares."""

    @abstractmethod
    def shared(self, keys: Int[Tensor, "batch"], num_time: int) -> Bool[Tensor, "batch time"]:
        """True for the columns that are mixed; the same number in every row, a function of the keys alone."""

    def __call__(
        self,
        log_mels: Float[Tensor, "batch frames mels"],
        keys: Int[Tensor, "batch"],
        patch_frames: int = 16,
        behind: Bool[Tensor, "batch frames"] | None = None,
    ) -> Mixture:
        """The clean clips, then their mixtures: the element-wise maximum where shared, the clip itself elsewhere.

        Unmixed regions keep to columns of patches, ``patch_frames`` wide. ``behind`` is True for frames behind a clip's
        end, None where there are none.

        Raises:
            ValueError: if the batch holds one clip only, which would be mixed with itself.
        """
        batch, num_frames, _ = log_mels.shape
        if batch < 2:
            raise ValueError("mixing needs at least 2 clips on each device, got a batch of 1: raise data.batch_size")
        shared = self.shared(keys, num_frames // patch_frames)
        partner = self._partners(batch, log_mels.device)
        both = shared.repeat_interleave(patch_frames, dim=1).unsqueeze(-1)
        mixed = torch.where(both, self._louder(log_mels, partner, behind), log_mels)
        num_alone = shared.shape[1] - self.num_shared(shared.shape[1])
        shared_columns = torch.argsort(shared.to(torch.uint8), dim=1, stable=True)[:, num_alone:]
        return Mixture(torch.cat([log_mels, mixed]), partner, shared_columns)

    def _louder(self, log_mels: Tensor, partner: Tensor, behind: Tensor | None) -> Tensor:
        if behind is None or self.padding != "gives_way":
            return torch.maximum(log_mels, log_mels[partner])
        behind = behind.unsqueeze(-1)
        sounds = log_mels.masked_fill(behind, -torch.inf)
        return torch.where(behind & behind[partner], log_mels, torch.maximum(sounds, sounds[partner]))

    def _partners(self, batch: int, device: torch.device) -> Tensor:
        clips = torch.arange(batch, device=device)
        if self.partner == "previous":
            return clips.roll(1)
        swapped = clips ^ 1
        # The last of an odd number of clips has no neighbor behind it and takes the one before.
        return torch.where(swapped < batch, swapped, clips - 1)
