"""Augmentation of waveforms: where a clip begins and ends, and how loud it is."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sslam_lightning.rng import fold_in, uniform
from sslam_lightning.types import Batch

# One stream of random numbers for every kind of draw, named by the letters of its number.
_ROLL = int.from_bytes(b"roll", "big")
_GAIN = int.from_bytes(b"gain", "big")
_CROP = int.from_bytes(b"crop", "big")


def roll_and_gain(
    waveforms: Float[Tensor, "batch samples"], num_samples: Int[Tensor, "batch"], keys: Int[Tensor, "batch"]
) -> Float[Tensor, "batch samples"]:
    """Shift every clip circularly within its own samples, then scale it by Beta(10, 10) + 0.5.

    The fine-tuning augmentation of AST, EAT and SSLAM ("roll_mag_aug" in the public code); arguments as of :func:`roll`.
    The gain lies between 0.5 and 1.5 around 1.
    """
    return roll(waveforms, num_samples, keys) * gains(keys).unsqueeze(1)


def roll(
    waveforms: Float[Tensor, "batch samples"], num_samples: Int[Tensor, "batch"], keys: Int[Tensor, "batch"]
) -> Float[Tensor, "batch samples"]:
    """Shift every clip circularly within its own samples, as BAT does in pre-training.

    The shift is uniform over the clip's samples. What lies behind a clip's end is not moved into it.

    Args:
        waveforms: mono, padded behind each clip's end.
        num_samples: valid samples of each row.
        keys: one a clip, see :mod:`sslam_lightning.rng`.
    """
    lengths = num_samples.to(waveforms.device, non_blocking=True).unsqueeze(1)
    shift = (uniform(fold_in(keys, _ROLL), 1) * lengths).long()
    place = torch.arange(waveforms.shape[1], device=waveforms.device)
    source = torch.where(place < shift, place - shift + lengths, place - shift)
    source = torch.where(place < lengths, source, place)
    return waveforms.gather(1, source)


def crop_to_shortest(batch: Batch, keys: Int[Tensor, "batch"]) -> Batch:
    """Cut every clip, at a random place, to the length of the shortest: no clip is padded (fairseq's ``pad: false``).

    Args:
        batch: clips of different lengths.
        keys: one a clip, see :mod:`sslam_lightning.rng`.
    """
    shortest = min(batch.lengths)
    spare = (batch.num_samples - shortest).unsqueeze(1).to(keys.device, non_blocking=True)
    # Rounding may bring the product up to its bound, which no place may reach.
    begin = (uniform(fold_in(keys, _CROP), 1) * (spare + 1)).long().minimum(spare)
    place = begin + torch.arange(shortest, device=begin.device)
    return batch._replace(waveforms=batch.waveforms.gather(1, place), lengths=[shortest] * len(batch.lengths))


def gains(keys: Int[Tensor, "batch"]) -> Float[Tensor, "batch"]:
    """One factor per key from Beta(10, 10) + 0.5.

    The k-th smallest of n uniform numbers is distributed as Beta(k, n + 1 - k): the median of 19 is what is wanted,
    exactly and without rejection (David and Nagaraja, Order Statistics, 2003, section 2.3).
    """
    return uniform(fold_in(keys, _GAIN), 19).sort(dim=-1).values[..., 9] + 0.5
