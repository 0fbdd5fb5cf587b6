"""How many clips a run was over, and how many it had to leave out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


class ClipCounts(NamedTuple):
    """The test clips of a run; how many of them, and of the training clips, could not be read or were too short.

    A run keeps them in its notes, under these names.
    """

    test_clips: int
    broken_test_clips: int
    broken_train_clips: int

    @property
    def told(self) -> str:
        """What was left out; nothing where all could be read."""
        test = [f"{self.broken_test_clips} of {self.test_clips} test clips"] * bool(self.broken_test_clips)
        train = [f"{self.broken_train_clips} training clips"] * bool(self.broken_train_clips)
        return "without " + " and ".join(test + train) if test or train else ""


def worst_of(notes: Iterable[Mapping[str, Any]]) -> ClipCounts | None:
    """The counts of the run that leaves out the most; None where no run tells, as those of older versions."""
    names = ClipCounts._fields
    told = [ClipCounts(*(each[name] for name in names)) for each in notes if each.keys() >= set(names)]
    return max(told, key=lambda counts: counts[1:], default=None)
