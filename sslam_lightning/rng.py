"""Random numbers that depend on a key alone, not on what was drawn before.

Masks, mixing partners and augmentation of a clip are functions of (seed, epoch, place of the clip in the data set).
So they are the same on CPU and GPU, on one device and on many, and after a resume, and no generator has to be saved.
The generator is SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014)
used as a counter-based hash; the idea of folding data into keys is that of JAX.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

_GOLDEN_GAMMA = 0x9E3779B97F4A7C15 - (1 << 64)  # as a signed 64-bit integer; products wrap around
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)


def _shift_right(x: Tensor, bits: int) -> Tensor:
    # Logical, of signed 64-bit integers.
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _scramble(x: Tensor) -> Tensor:
    # The finalizer of SplitMix64.
    x = (x ^ _shift_right(x, 30)) * _MIX_1
    x = (x ^ _shift_right(x, 27)) * _MIX_2
    return x ^ _shift_right(x, 31)


def fold_in(keys: Int[Tensor, "*shape"], data: int | Int[Tensor, "*other"]) -> Int[Tensor, "*broadcast"]:
    """New keys, one for every pair of a key and a number; the two shapes broadcast."""
    if isinstance(data, int):  # filled on the device: a copy from the host would make it wait
        data = torch.full((), data, dtype=torch.int64, device=keys.device)
    return _scramble(keys * _GOLDEN_GAMMA + _scramble(data + _GOLDEN_GAMMA))


def clip_keys(index: Int[Tensor, "batch"], seed: int, epoch: int) -> Int[Tensor, "batch"]:
    """The key of every clip of a batch in this epoch of this run."""
    return fold_in(fold_in(fold_in(torch.zeros_like(index), seed), epoch), index)


def uniform(keys: Int[Tensor, "*shape"], count: int) -> Float[Tensor, "*shape count"]:
    """``count`` numbers in [0, 1) per key, float32 with 24 random bits each."""
    counters = torch.arange(count, device=keys.device)
    return _shift_right(fold_in(keys.unsqueeze(-1), counters), 40).float() * 2.0**-24


def integers(keys: Int[Tensor, "*shape"], count: int, high: int) -> Int[Tensor, "*shape count"]:
    """``count`` whole numbers in [0, high) per key; ``high`` well below 2**24, so that none is visibly favored."""
    return (uniform(keys, count) * high).long()
