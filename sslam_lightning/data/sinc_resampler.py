"""torchaudio's resampler, several times as fast: the same filter without the multiplications by zero.

Resampling from a to b Hz (in lowest terms) computes b outputs from every a inputs; torchaudio does so by one convolution
whose kernel is so long that every output could reach all of them. Yet an output reaches only a few (35 of 475 from 44.1
to 16 kHz). So neighbouring outputs are grouped, and each group is one product of a narrow matrix with a strided view.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

_NOTHING = 1e-20  # behind its end the window is not 0 but the square of a rounding error, 1e-33
_GROUP = 16  # outputs that share a view of the input: wider ones multiply by more zeros, narrower ones are many calls


class _Group(NamedTuple):
    first: int  # input of a period at which the view begins
    taps: Float[Tensor, "inputs outputs"]


class SincResampler:
    """Resamples one waveform after the other.

    Args:
        kernel: of `torchaudio.transforms.Resample`, (outputs a period, 1, taps).
        width: how far the kernel reaches to the left of a period.
        period_in: inputs in a period, the rate to come from in lowest terms.
    """

    def __init__(self, kernel: Float[Tensor, "outputs 1 taps"], width: int, period_in: int) -> None:
        outputs, _, taps = kernel.shape
        self._ratio = (outputs, period_in)
        repeats = ceil(2 * _GROUP / outputs)  # 1:2 has one output a period, far too few for a matrix product
        self._period_out, self._period_in, self._width = outputs * repeats, period_in * repeats, width
        whole = torch.zeros(self._period_out, taps + (repeats - 1) * period_in)
        for repeat in range(repeats):
            whole[repeat * outputs : (repeat + 1) * outputs, repeat * period_in : repeat * period_in + taps] = kernel[:, 0]
        self._groups = [_trimmed(rows) for rows in whole.split(_GROUP)]
        self._reach = max(group.first + len(group.taps) for group in self._groups)

    def __call__(self, waveform: Float[Tensor, "samples"]) -> Float[Tensor, "resampled"]:
        """As long as torchaudio makes it: the length times the ratio of the rates, rounded up."""
        outputs, inputs = self._ratio
        num_resampled = -(-len(waveform) * outputs // inputs)
        periods = -(-num_resampled // self._period_out)
        padded = torch.empty((periods - 1) * self._period_in + self._reach + self._width)
        end = self._width + len(waveform)
        padded[: self._width] = 0.0
        padded[self._width : end] = waveform[: len(padded) - self._width]
        padded[end:] = 0.0
        resampled = torch.empty(periods, self._period_out)
        column = 0
        for first, taps in self._groups:
            view = padded[first:].as_strided((periods, len(taps)), (self._period_in, 1))
            torch.mm(view, taps, out=resampled[:, column : column + taps.shape[1]])
            column += taps.shape[1]
        return resampled.flatten()[:num_resampled]


def _trimmed(rows: Float[Tensor, "outputs taps"]) -> _Group:
    used = (rows.abs() > _NOTHING).any(dim=0).nonzero().flatten()
    first, last = int(used[0]), int(used[-1])
    return _Group(first, rows[:, first : last + 1].t().contiguous())
