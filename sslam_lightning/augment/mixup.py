"""Mixup: every clip is blended with another one, and so are their labels (Zhang et al., ICLR 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sslam_lightning.rng import fold_in, uniform

_WHETHER = int.from_bytes(b"mixup", "big")
_RATIO = int.from_bytes(b"ratio", "big")
# A pair is accepted with probability 1 / C(2 alpha, alpha): 0.61 at alpha 0.8, 1/6 at alpha 2. The chance that none of
# 256 is accepted stays below 1e-20.
_PAIRS = 256
_LARGEST_ALPHA = 2.0


class Mixed(NamedTuple):
    """Blended clips and their labels."""

    log_mels: Float[Tensor, "batch frames mels"]
    labels: Float[Tensor, "batch classes"]
    ratio: Float[Tensor, "batch"]  # the share of a clip itself, the rest is its partner's


@dataclass(frozen=True)
class Mixup:
    """Blends clips in pairs, by default in one ratio for the whole batch (timm's batch mode, as in EAT).

    In an odd batch the clip in the middle is its own partner, and so is the only clip of a batch of one.

    Args:
        alpha: the ratio is drawn from Beta(alpha, alpha), alpha at most 2; 0 turns mixup off.
        prob: probability that a batch is mixed at all.
        partner: ``flip`` blends with the batch in reverse order, all clips in one ratio, as published. ``neighbor`` swaps
            within pairs (0 with 1, 2 with 3, ...), each pair in its own ratio, so that a batch may be cut in halves, for
            two devices, without changing any blend.
    """

    alpha: float = 0.8
    prob: float = 0.9
    partner: Literal["flip", "neighbor"] = "flip"

    def __post_init__(self) -> None:
        if not 0.0 <= self.alpha <= _LARGEST_ALPHA:
            raise ValueError(f"mixup: alpha must lie between 0 and {_LARGEST_ALPHA:g}, got {self.alpha}")
        if not 0.0 <= self.prob <= 1.0:
            raise ValueError(f"mixup: prob must lie between 0 and 1, got {self.prob}")
        if self.partner not in ("flip", "neighbor"):
            raise ValueError(f"mixup: partner must be flip or neighbor, got {self.partner!r}")

    def __call__(
        self,
        log_mels: Float[Tensor, "batch frames mels"],
        labels: Float[Tensor, "batch classes"],
        keys: Int[Tensor, "batch"],
    ) -> Mixed:
        """Mix spectrograms and labels. Nothing waits for the device.

        The ratio of a pair is that of its first clip's key, of the batch that of its first clip.
        """
        clips = torch.arange(len(keys), device=keys.device)
        if self.partner == "flip":
            partner, first = clips.flip(0), torch.zeros_like(clips)
        else:
            swapped = clips ^ 1
            partner = torch.where(swapped < len(keys), swapped, clips)  # the last of an odd number stays alone
            first = torch.minimum(clips, partner)
        ratio = self.ratio(keys)[first]
        return Mixed(_blend(log_mels, partner, ratio), _blend(labels, partner, ratio), ratio)

    def ratio(self, keys: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Per key the share that a clip keeps: Beta(alpha, alpha) with probability ``prob``, otherwise 1."""
        if self.alpha == 0.0:
            return torch.ones(keys.shape, dtype=torch.float32, device=keys.device)
        mixes = uniform(fold_in(keys, _WHETHER), 1).squeeze(-1) < self.prob
        return torch.where(mixes, symmetric_beta(fold_in(keys, _RATIO), self.alpha), 1.0)


def symmetric_beta(keys: Int[Tensor, "*shape"], alpha: float) -> Float[Tensor, "*shape"]:
    """One number per key from Beta(alpha, alpha), 0 < alpha <= 2.

    M. D. Jöhnk's method (Metrika 8, 1964): with x = u^(1/alpha) and y = v^(1/alpha), x / (x + y) is the answer if
    x + y <= 1; otherwise draw again. Here all pairs are drawn at once and the first accepted one counts. In
    logarithms, because u^(1/alpha) underflows for a small alpha.
    """
    log_x, log_y = (-uniform(keys, 2 * _PAIRS)).log1p().div(alpha).chunk(2, dim=-1)
    accepted = torch.logaddexp(log_x, log_y) <= 0.0
    first = accepted.int().argmax(dim=-1, keepdim=True)
    return (log_x - log_y).gather(-1, first).squeeze(-1).sigmoid()


def _blend(
    x: Float[Tensor, "batch *rest"], partner: Int[Tensor, "batch"], ratio: Float[Tensor, "batch"]
) -> Float[Tensor, "batch *rest"]:
    """Each row with its partner's."""
    ratio = ratio.view(-1, *[1] * (x.ndim - 1))
    return x * ratio + x[partner] * (1.0 - ratio)
