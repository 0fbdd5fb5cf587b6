"""Fixed positions of tokens: in a two-dimensional field, and along a line."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


class PositionTable:
    """Fixed positions on the device of the tokens, as many as the longest clip so far has.

    It is no buffer: there is nothing to save, and DistributedDataParallel would broadcast it at every step.

    Args:
        make: returns the table of at least so many places, whose rows do not depend on their number.
    """

    def __init__(self, make: Callable[[int], Float[Tensor, "places dim"]]) -> None:
        self._make = make
        self._table = torch.empty(0)

    def __call__(self, tokens: Float[Tensor, "rows tokens dim"]) -> Float[Tensor, "tokens dim"]:
        """The positions of the tokens of a row."""
        num_tokens = tokens.shape[1]
        if len(self._table) < num_tokens or self._table.device != tokens.device:
            with torch.inference_mode(False):
                self._table = self._make(max(num_tokens, len(self._table))).to(tokens.device, non_blocking=True)
        return self._table[:num_tokens]


def check_width_of_field(dim: int) -> None:
    """Raise ValueError unless tokens of the width can have :func:`sincos_positions`."""
    if dim % 4:
        raise ValueError(f"dim must be a multiple of 4 (2-D sine-cosine positions), got {dim}")


def sincos_positions(num_time: int, num_mel: int, dim: int) -> Float[Tensor, "patches dim"]:
    """Two-dimensional sine-cosine positions, time-major (MAE, He et al., 2022, appendix A.1).

    The first half of the width encodes the mel index, the second the time index, each as
    [sin, cos] of index / 10000^(i / (dim / 4)). Nothing depends on the extent of the field, so positions of a longer
    clip begin with those of a shorter one.

    Raises:
        ValueError: if ``dim`` is not a multiple of 4.
    """
    check_width_of_field(dim)
    # In float32 and by NumPy, as the released tables were made: bit for bit theirs.
    frequencies = 1.0 / 10000 ** (np.arange(dim // 4, dtype=np.float32) / np.float32(dim / 4))
    time, mel = (np.outer(np.arange(count, dtype=np.float32), frequencies) for count in (num_time, num_mel))
    time = np.concatenate([np.sin(time), np.cos(time)], axis=1)[:, None].repeat(num_mel, axis=1)
    mel = np.concatenate([np.sin(mel), np.cos(mel)], axis=1)[None].repeat(num_time, axis=0)
    return torch.from_numpy(np.concatenate([mel, time], axis=2).reshape(num_time * num_mel, dim))


def mel_major_positions(num_time: int, num_mel: int, dim: int) -> Float[Tensor, "patches dim"]:
    """BAT's table for a field of patches: :func:`sincos_positions` with time and mel exchanged, so its rows run along time.

    Patches are numbered along the mels and take the rows in their own order. All places of the field are told apart, and
    trained models have it so.
    """
    return sincos_positions(num_mel, num_time, dim)


def sinusoidal_positions(num_tokens: int, dim: int) -> Float[Tensor, "tokens dim"]:
    """One-dimensional positions, sine and cosine in turn (Vaswani et al., 2017, section 3.5); MAE-AST's.

    Raises:
        ValueError: if ``dim`` is odd.
    """
    if dim % 2:
        raise ValueError(f"sinusoidal positions need an even width, got {dim}")
    half, places = (torch.arange(count, dtype=torch.float64, device="cpu") for count in (dim // 2, num_tokens))
    angles = torch.outer(places, 10000.0 ** -(half / (dim / 2)))
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1).float()
