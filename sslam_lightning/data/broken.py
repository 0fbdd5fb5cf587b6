"""The account of recordings that could not be read: counted, listed, and the end of the run when they are many."""

from __future__ import annotations

import logging

from sslam_lightning.types import Batch

_log = logging.getLogger(__name__)


class BrokenClips:
    """What one process met. A few broken files are normal in AudioSet; many mean a wrong mount or codec.

    Args:
        max_share: of the clips met so far; above it `record` stops the run.
        judge_after: number of clips before the share means anything.
    """

    def __init__(self, max_share: float, judge_after: int = 50) -> None:
        if not 0 <= max_share <= 1:
            raise ValueError(f"max_broken_share must lie between 0 and 1, got {max_share}")
        self.max_share = max_share
        self.judge_after = judge_after
        self.reasons: dict[str, str] = {}  # name -> reason
        self.num_met = 0  # clips asked for, a broken one again in every epoch
        self.num_broken = 0
        self._num_reported = 0

    def record(self, batch: Batch) -> None:
        """Count a batch.

        Raises:
            ValueError: more than ``max_share`` of the clips so far were broken.
        """
        self.num_met += len(batch.names) + len(batch.broken)
        self.num_broken += len(batch.broken)
        self.reasons.update(batch.broken)
        if self.num_met >= self.judge_after and self.num_broken > self.max_share * self.num_met:
            raise ValueError(
                f"{self.num_broken} of {self.num_met} clips cannot be read, more than max_broken_share "
                f"{self.max_share:g} allows; for example {next(reversed(self.reasons.values()))}"
            )

    def report(self) -> None:
        """Log one line per clip that is broken, and their number; nothing twice."""
        new = list(self.reasons.items())[self._num_reported :]
        self._num_reported = len(self.reasons)
        for name, reason in new:
            _log.warning("%s: %s", name, reason)
        if new:
            _log.warning("%d clips could not be read and were left out together with their labels", len(self.reasons))
