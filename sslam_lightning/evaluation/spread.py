"""The mean of a number over runs, and how far it spreads."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import NamedTuple

from sslam_lightning.evaluation.runs import Run


class Spread(NamedTuple):
    """A mean over runs, and standard deviations (n - 1): over all of them, of the folds' means over seeds, and of the
    seeds' means over folds; None where there is one value.
    """

    mean: float
    of_runs: float | None
    of_folds: float | None
    of_seeds: float | None


def spread(runs: Sequence[Run], value: Callable[[Run], float]) -> Spread:
    """Mean and deviations of a value of the runs."""
    return Spread(
        statistics.fmean(value(run) for run in runs),
        _deviation([value(run) for run in runs]),
        _deviation(means_of(runs, value, lambda run: run.fold)),
        _deviation(means_of(runs, value, lambda run: str(run.seed))),
    )


def means_of(runs: Sequence[Run], value: Callable[[Run], float], kind: Callable[[Run], str]) -> list[float]:
    """The mean value of the runs of each kind, such as a fold or a seed."""
    return [statistics.fmean(value(run) for run in group) for _, group in groupby(sorted(runs, key=kind), key=kind)]


def _deviation(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None
