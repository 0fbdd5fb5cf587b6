"""What every mask sampler is: a function from keys and a grid to masks that hide the same number in every row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sslam_lightning.rng import fold_in, uniform
from sslam_lightning.types import Grid, Mask
from sslam_lightning.whole_numbers import check_whole_numbers

MASKS = int.from_bytes(b"masks", "big")  # this stream of a clip's key; mixing and augmentation have others
_SPARE = int.from_bytes(b"spare", "big")


class MaskSampler(ABC):
    """Draws which patches are hidden. To add a kind of mask, write the two methods in a new file."""

    @abstractmethod
    def num_hidden(self, grid: Grid) -> int:
        """How many patches every row hides."""

    @abstractmethod
    def hidden(self, keys: Int[Tensor, "rows"], grid: Grid) -> Bool[Tensor, "rows patches"]:
        """True where a patch is hidden; a function of the keys alone."""

    def hidden_per_clip(self, keys: Int[Tensor, "clips masks"], grid: Grid) -> Bool[Tensor, "rows patches"]:
        """As :meth:`hidden`, for all masks of each clip, clip by clip; overridden where they have something in common."""
        return self.hidden(keys.flatten(), grid)

    def fits(self, grid: Grid) -> bool:
        """Whether a mask of this grid hides some patches and leaves some visible."""
        return 0 < self.num_hidden(grid) < grid.num_patches

    def __call__(
        self, keys: Int[Tensor, "clips *masks"], grid: Grid, padding: Bool[Tensor, "rows patches"] | None = None
    ) -> Mask:
        """One mask a key. Keys in two dimensions are those of several masks of each clip; rows then come clip by clip.

        Where clips are padded, padding stays visible (nothing attends to it), and every row hides as many patches as the
        shortest clip can spare: of a longer clip's hidden patches, some are shown again at random. To know that number a
        GPU is waited for; without padding it is not.

        Raises:
            ValueError: if the grid is so small that the mask would hide nothing or everything.
        """
        shortest = grid
        if padding is not None:
            shortest = Grid(int((~padding).sum(dim=1).min()) // grid.freq, grid.freq)
        num_hidden = self.num_hidden(shortest)
        if not self.fits(shortest):
            raise ValueError(
                f"a mask must hide some patches and leave some visible, but {self} hides {num_hidden} of the "
                f"{shortest.num_patches} patches of a clip of {shortest.time} x {shortest.freq}: use longer clips or "
                "another ratio"
            )
        hidden = self.hidden_per_clip(as_clips_and_masks(keys), grid)
        if padding is not None:
            order = uniform(fold_in(keys.flatten(), _SPARE), grid.num_patches).masked_fill(padding, -1.0)
            hidden = choose_exactly(hidden & ~padding, order, num_hidden)
        return mask_from_hidden(hidden, num_hidden)


@dataclass(frozen=True)
class RatioMask(MaskSampler):
    """A sampler that hides a share of the patches: as many as are not kept visible, rounded down.

    Args:
        mask_ratio: share of the patches that is hidden.
    """

    mask_ratio: float = 0.75

    def __post_init__(self) -> None:
        check_whole_numbers(self, "masking")
        if not 0.0 < self.mask_ratio < 1.0:
            raise ValueError(f"masking: mask_ratio must lie between 0 and 1, got {self.mask_ratio}")

    def num_hidden(self, grid: Grid) -> int:
        """How many patches every row hides."""
        return grid.num_patches - int(grid.num_patches * (1 - self.mask_ratio))


def as_clips_and_masks(keys: Int[Tensor, "clips *masks"]) -> Int[Tensor, "clips masks"]:
    """Keys in two dimensions; those in one are of one mask a clip."""
    return keys.unsqueeze(-1).flatten(1)


def mask_from_hidden(hidden: Bool[Tensor, "rows patches"], num_hidden: int) -> Mask:
    """The mask with both of its index tables. Every row must hide ``num_hidden`` patches."""
    order = torch.argsort(hidden.to(torch.uint8), dim=1, stable=True)  # visible ones first, both in ascending order
    num_visible = hidden.shape[1] - num_hidden
    return Mask(hidden, order[:, :num_visible], order[:, num_visible:])


def choose_exactly(
    candidates: Bool[Tensor, "rows patches"], tie_breaks: Float[Tensor, "rows patches"], count: int
) -> Bool[Tensor, "rows patches"]:
    """Exactly ``count`` patches a row: a random subset of the candidates, or all of them and random others.

    ``tie_breaks`` are random numbers in [0, 1). Two that are equal at the border of the subset (one row in 20 000 of 512
    patches) may fall differently on another device.
    """
    chosen = (candidates + tie_breaks).topk(count, dim=1, sorted=False).indices
    return torch.zeros_like(candidates).scatter_(1, chosen, True)
