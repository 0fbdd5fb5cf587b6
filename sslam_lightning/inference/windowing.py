"""Recordings longer than one pass: where to cut them into overlapping windows, and how to join what comes out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from sslam_lightning.features import LogMels
from sslam_lightning.features.fbank import hop_samples
from sslam_lightning.models import LogMelInput


class Framing(NamedTuple):
    """How a model's tokens lie on a line of samples (of text: of written tokens, at rate, hop and size 1)."""

    rate_hz: int
    hop_samples: int  # from one frame to the next
    size_samples: int  # of a frame
    token_frames: int  # of a token
    unseen_samples: int = 0  # at the end of the one length that a model takes, where they make no token more

    @classmethod
    def of(cls, features: LogMels, takes: LogMelInput | None = None) -> Framing:
        """That of patches of log-mels; where ``takes`` says that they overlap, a frame is as much longer as they do."""
        rate_hz, token_frames, overlap, unseen = features.sample_rate_hz, features.patch_frames, 0, 0
        if takes is not None:
            token_frames, overlap = takes.hop_frames, takes.patch_frames - takes.hop_frames
            unseen = ((takes.num_frames or takes.patch_frames) - takes.patch_frames) % takes.hop_frames
        hop = hop_samples(rate_hz)
        return cls(rate_hz, hop, features.frame_samples + overlap * hop, token_frames, unseen * hop)

    @property
    def token_samples(self) -> int:
        """What one token sees."""
        return self.size_samples + (self.token_frames - 1) * self.hop_samples

    @property
    def token_seconds(self) -> float:
        """From one token to the next."""
        return self.token_frames * self.hop_samples / self.rate_hz

    @property
    def frames_per_second(self) -> float:
        """Of frames, not tokens."""
        return self.rate_hz / self.hop_samples

    def count_frames(self, num_samples: int) -> int:
        """Whole frames."""
        return max((num_samples - self.size_samples) // self.hop_samples + 1, 0)

    def timestamps(self, start: int, stop: int) -> Float[Tensor, "time"]:
        """Middles of the tokens from ``start`` to ``stop``, float64."""
        steps = torch.arange(start, stop, dtype=torch.float64, device="cpu") * (self.token_frames * self.hop_samples)
        return (steps + self.token_samples / 2) / self.rate_hz


class Window(NamedTuple):
    """One window of a recording, or a part of another file."""

    start_frame: int  # a multiple of the patch
    content: Shaped[Tensor, "rows *shape"]  # waveforms, tokens of a text, or an image
    stop_samples: int  # where it ends in the recording


class Windows(NamedTuple):
    """Lengths in frames, for log-mels of 10 ms: a recording of up to ``window_frames`` is one window.

    Longer ones are cut every ``window_frames - overlap_frames``; the last window begins earlier instead of being short, so
    that every window sees as much as the others. All begin at whole patches.
    """

    window_frames: int
    overlap_frames: int

    @classmethod
    def of(
        cls, window_seconds: float, overlap_seconds: float, patch_frames: int, frames_per_second: float = 100.0
    ) -> Windows:
        """The next whole patches.

        Raises:
            ValueError: if a window is shorter than a patch, or the overlap longer than half a window.
        """
        per_second = frames_per_second / patch_frames  # patches
        window, overlap = (round(seconds * per_second) for seconds in (window_seconds, overlap_seconds))
        if window < 1 or not 0 <= 2 * overlap <= window:
            raise ValueError(
                f"a window must have at least {1 / per_second:g} s and overlap the next by at most half of it, got "
                f"{window_seconds:g} s and {overlap_seconds:g} s"
            )
        return cls(window * patch_frames, overlap * patch_frames)

    def cut(self, blocks: Iterator[Shaped[Tensor, "rows samples"]], framing: Framing) -> Iterator[Window]:
        """Windows of a recording that comes in blocks; never holds much more than two of them.

        A recording shorter than one patch gets silence behind its end, up to one patch.
        """
        hop, patch = framing.hop_samples, framing.token_frames
        size = framing.size_samples + (self.window_frames - 1) * hop
        longest = size + framing.unseen_samples  # of one window alone
        step = self.window_frames - self.overlap_frames
        held: Tensor | None = None
        held_from = start = 0  # frames: where `held` begins (a window back, for the last one), and the next window
        for block in blocks:
            held = block if held is None else torch.cat([held, block], dim=1)
            while held.shape[1] >= (start - held_from) * hop + longest + hop:  # there is more behind this window
                begin = (start - held_from) * hop
                yield Window(start, held[:, begin : begin + size], start * hop + size)
                held, held_from, start = held[:, begin:], start, start + step
        if held is None:
            return
        if start == 0:
            missing = max(0, framing.token_samples - held.shape[1])
            yield Window(0, torch.nn.functional.pad(held, (0, missing)), held.shape[1])
            return
        left = framing.count_frames(held.shape[1]) - self.window_frames
        start = held_from + -(-left // patch) * patch
        yield Window(start, held[:, (start - held_from) * hop :], held_from * hop + held.shape[1])


class OverlapAdd:
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
        weight = torch.linspace(0, 1, shared + 2, dtype=rows.dtype, device=rows.device)[1:-1]
        blended = torch.lerp(before, rows[:shared], weight.view(-1, *[1] * (rows.ndim - 1)))
        self._start, self._rows = start, torch.cat([blended, rows[shared:]])
        return done

    def finish(self) -> Float[Tensor, "time ..."]:
        """What is left."""
        assert self._rows is not None, "a recording has at least one window"
        return self._rows
