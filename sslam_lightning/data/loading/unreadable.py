"""Counts and lists the recordings that could not be read, and stops the run when there are too many."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from itertools import islice
from typing import Any, NamedTuple

from sslam_lightning.types import AnyBatch

_log = logging.getLogger(__name__)


class Counts(NamedTuple):
    """Clips asked for; the broken ones among them; and those that were broken in this training epoch."""

    met: int = 0
    broken: int = 0
    broken_in_epoch: int = 0


class UnreadableClips:
    """The broken clips of one process. A few are normal in AudioSet; many mean a wrong mount or codec.

    Args:
        max_share: of the clips so far; above it `judge` stops the run.
        judge_after: number of clips before the share means anything.
    """

    def __init__(self, max_share: float, judge_after: int = 50) -> None:
        if not 0 <= max_share <= 1:
            raise ValueError(f"max_unreadable_fraction must lie between 0 and 1, got {max_share}")
        self.max_share = max_share
        self.judge_after = judge_after
        self.reasons: dict[str, str] = {}  # name -> reason
        self.counts = Counts()  # a broken clip counts again in every epoch
        self._epoch = 0
        self._num_reported = 0

    def record(self, batch: AnyBatch, training: bool = False) -> None:
        """Count a batch."""
        met, broken, in_epoch = self.counts
        new = len(batch.broken)
        self.counts = Counts(met + len(batch.names) + new, broken + new, in_epoch + new * training)
        self.reasons.update(batch.broken)

    def start_epoch(self, epoch: int) -> None:
        """Count the epoch's from zero, unless a resumed run continues it."""
        if epoch != self._epoch:
            self._epoch = epoch
            self.counts = self.counts._replace(broken_in_epoch=0)

    def too_many(self, counts: Counts) -> bool:
        """Whether more than ``max_share`` of these clips were broken, and they are enough to tell."""
        return counts.met >= self.judge_after and counts.broken > self.max_share * counts.met

    def complaint(self, counts: Counts, example: str | None) -> ValueError:
        """The error that stops a run with too many."""
        return ValueError(
            f"{counts.broken} of {counts.met} clips cannot be used, more than max_unreadable_fraction "
            f"{self.max_share:g} allows" + (f"; for example {example}" if example else "")
        )

    @property
    def example(self) -> str | None:
        """The latest reason."""
        return next(reversed(self.reasons.values()), None)

    def judge(self) -> None:
        """Raise ValueError if more than ``max_share`` of this process's clips were broken."""
        if self.too_many(self.counts):
            raise self.complaint(self.counts, self.example)

    def report(self) -> None:
        """Log each broken clip once, and their number."""
        new = list(self.reasons.items())[self._num_reported :]
        self._num_reported = len(self.reasons)
        for name, reason in new:
            _log.warning("%s: %s", name, reason)
        if new:
            _log.warning("%d clips could not be used and were left out together with their labels", len(self.reasons))

    def like(self) -> UnreadableClips:
        """An empty account with the same bounds, that has reported what this one has."""
        other = UnreadableClips(self.max_share, self.judge_after)
        other._num_reported = self._num_reported
        return other

    def state_dict(self, max_reasons: int | None = None) -> dict[str, Any]:
        """Plain data; for a checkpoint with the first reasons only."""
        reasons = dict(islice(self.reasons.items(), max_reasons))
        return {"epoch": self._epoch, "counts": list(self.counts), "reasons": reasons}

    def add(self, state: Mapping[str, Any]) -> None:
        """Add the account of an earlier run, or of another rank."""
        self._epoch = state["epoch"]
        self.counts = Counts(*(ours + theirs for ours, theirs in zip(self.counts, state["counts"], strict=True)))
        self.reasons.update(state["reasons"])
