"""Recordings longer than one pass: where to cut them into overlapping windows, and how to join what comes out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sslam_lightning.features import LogMels, count_frames
from sslam_lightning.features.fbank import hop_samples, window_samples


class Piece(NamedTuple):
    """One window of a recording."""

    start_frame: int  # a multiple of the patch
    waveforms: Float[Tensor, "rows samples"]


class Windows(NamedTuple):
    """Lengths in frames of 10 ms: a recording of up to ``window_frames`` is one window.

    Longer ones are cut every ``window_frames - overlap_frames``; the last window begins earlier instead of being short, so
    that every window sees as much as the others. All begin at whole patches.
    """

    window_frames: int
    overlap_frames: int

    @classmethod
    def of(cls, window_seconds: float, overlap_seconds: float, patch_frames: int) -> Windows:
        """The next whole patches.

        Raises:
            ValueError: if a window is shorter than a patch, or the overlap longer than half a window.
        """
        window, overlap = (round(seconds * 100 / patch_frames) for seconds in (window_seconds, overlap_seconds))
        if window < 1 or not 0 <= 2 * overlap <= window:
            raise ValueError(
                f"a window must have at least {patch_frames / 100:g} s and overlap the next by at most half of it, got "
                f"{window_seconds:g} s and {overlap_seconds:g} s"
            )
        return cls(window * patch_frames, overlap * patch_frames)

    def cut(self, blocks: Iterator[Float[Tensor, "rows samples"]], features: LogMels) -> Iterator[Piece]:
        """Windows of a recording that comes in blocks; never holds much more than two of them.

        A recording shorter than one patch gets silence behind its end, up to one patch.
        """
        rate_hz, patch = features.sample_rate_hz, features.patch_frames
        hop, frame = hop_samples(rate_hz), window_samples(rate_hz)
        size = frame + (self.window_frames - 1) * hop
        step = self.window_frames - self.overlap_frames
        held: Tensor | None = None
        held_from = start = 0  # frames: where `held` begins (a window back, for the last one), and the next window
        for block in blocks:
            held = block if held is None else torch.cat([held, block], dim=1)
            while held.shape[1] >= (start - held_from) * hop + size + hop:  # there is more behind this window
                begin = (start - held_from) * hop
                yield Piece(start, held[:, begin : begin + size])
                held, held_from, start = held[:, begin:], start, start + step
        if held is None:
            return
        if start == 0:
            missing = max(0, features.min_samples - held.shape[1])
            yield Piece(0, torch.nn.functional.pad(held, (0, missing)))
            return
        left = count_frames(held.shape[1], rate_hz) - self.window_frames
        start = held_from + -(-left // patch) * patch
        yield Piece(start, held[:, (start - held_from) * hop :])


class Joiner:
    """Joins the rows of overlapping windows into one sequence, blending linearly where windows overlap.

    Windows come in order. ``push`` gives back what no later window can touch, ``finish`` the rest: together as many rows as
    the recording has, none twice.
    """

    def __init__(self) -> None:
        self._start = 0
        self._rows: Tensor | None = None

    def push(self, start: int, rows: Float[Tensor, "time ..."]) -> Float[Tensor, "time ..."]:
        """Take in a window's rows, of which the first belongs to place ``start``."""
        if self._rows is None:
            self._start, self._rows = start, rows
            return rows[:0]
        done, before = self._rows[: start - self._start], self._rows[start - self._start :]
        shared = len(before)
        weight = (torch.arange(1, shared + 1, device=rows.device) / (shared + 1)).view(-1, *[1] * (rows.ndim - 1))
        blended = torch.lerp(before, rows[:shared], weight.to(rows.dtype).expand_as(before))
        self._start, self._rows = start, torch.cat([blended, rows[shared:]])
        return done

    def finish(self) -> Float[Tensor, "time ..."]:
        """What is left."""
        assert self._rows is not None, "a recording has at least one window"
        return self._rows
