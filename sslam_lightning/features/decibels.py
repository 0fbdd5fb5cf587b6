"""Decibel mels scaled to [0, 1] per clip, the input of BAT (arXiv 2602.16305)."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

_DECIBELS_PER_NEPER = 10.0 / math.log(10.0)  # the natural logarithm of a power, times this, is in decibels
_TOP_DECIBELS = 80.0  # what lies further below the loudest value of a clip counts as silence


def scaled_decibels(
    log_mels: Float[Tensor, "batch frames mels"], valid: Bool[Tensor, "batch frames"]
) -> Float[Tensor, "batch frames mels"]:
    """Each clip's mels in decibels, the upper 80 dB of them, with the quietest value at 0 and the loudest at 1.

    Extremes are those of the valid frames. Frames that are not valid are 0, and so is a clip of one level throughout.

    Args:
        log_mels: natural logarithms of mel energies, see :func:`~sslam_lightning.features.kaldi_fbank`.
        valid: True where a frame belongs to the clip, False behind its end.
    """
    inside = valid.unsqueeze(-1)
    decibels = log_mels * _DECIBELS_PER_NEPER
    loudest = decibels.masked_fill(~inside, -torch.inf).amax(dim=(1, 2), keepdim=True)
    decibels = torch.maximum(decibels, loudest - _TOP_DECIBELS)
    quietest = decibels.masked_fill(~inside, torch.inf).amin(dim=(1, 2), keepdim=True)
    span = loudest - quietest
    return torch.where(inside & (span > 0), (decibels - quietest) / span, 0.0)
