"""Which clips a model was trained on, small enough for a checkpoint: a score on them is none on new clips."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

_MOST_KEPT = 4096


def fingerprint(paths: Iterable[str]) -> Int[Tensor, "kept"]:
    """The smallest hashes of the paths, in ascending order: all of a small set, of a large one a sample.

    Whether a path belongs to the sample depends on its hash alone, so the samples of two sets can be compared.
    """
    hashes = np.unique(np.fromiter((_hash(path) for path in paths), np.int64))
    return torch.from_numpy(hashes[:_MOST_KEPT].copy())


def train_overlap(paths: Iterable[str], trained_on: Int[Tensor, "kept"]) -> list[str]:
    """Those of the paths that the fingerprint holds."""
    known = set(trained_on.tolist())
    return [path for path in paths if _hash(path) in known]


def _hash(path: str) -> int:
    digest = hashlib.blake2b(path.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)
