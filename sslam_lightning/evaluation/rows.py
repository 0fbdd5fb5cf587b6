"""The rows of a table of results: means over runs, how far they spread, and what is left out."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import NamedTuple

from sslam_lightning.evaluation.runs import ClipCounts, Run, worst_counts


class Spread(NamedTuple):
    """A mean over runs, and standard deviations (n - 1): over all of them, of the folds' means over seeds, and of the
    seeds' means over folds; None where there is one value.
    """

    mean: float
    of_runs: float | None
    of_folds: float | None
    of_seeds: float | None


def spread(runs: Sequence[Run], value: Callable[[Run], float]) -> Spread:
    values = [value(run) for run in runs]
    by_fold, by_seed = (means_of(runs, value, kind) for kind in (lambda run: run.fold, lambda run: str(run.seed)))
    return Spread(statistics.fmean(values), *map(_deviation, (values, by_fold, by_seed)))


def means_of(runs: Sequence[Run], value: Callable[[Run], float], kind: Callable[[Run], str]) -> list[float]:
    """The mean value of the runs of each kind, such as a fold or a seed."""
    return [statistics.fmean(map(value, group)) for _, group in groupby(sorted(runs, key=kind), key=kind)]


def _deviation(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


@dataclass(frozen=True)
class Row:
    """What a model reaches on a suite by a protocol, over ``fold`` or, where that is None, over all folds.

    ``best`` and ``last`` are None where no run has a score.
    """

    model: str
    suite: str
    protocol: str
    fold: str | None
    runs: Sequence[Run]

    @property
    def metric(self) -> str:
        return self.runs[0].metric

    @cached_property
    def scored(self) -> list[Run]:
        """The runs that did not fail."""
        return [run for run in self.runs if not run.failed]

    @property
    def num_runs(self) -> int:
        return len(self.scored)

    @property
    def num_failed(self) -> int:
        return len(self.runs) - len(self.scored)

    @property
    def best(self) -> Spread | None:
        return spread(self.scored, lambda run: run.best) if self.scored else None

    @property
    def last(self) -> Spread | None:
        return spread(self.scored, lambda run: run.last) if self.scored else None

    @property
    def of_each_seed(self) -> list[float]:
        """Last scores, mean over folds."""
        return means_of(self.scored, lambda run: run.last, lambda run: str(run.seed))

    @property
    def chosen(self) -> str:
        """``learning_rate 0.001 (4), 0.003 (1)``, and so on for every setting."""
        told = []
        for name in dict.fromkeys(name for run in self.scored for name in run.chosen):
            counts = Counter(str(run.chosen[name]) for run in self.scored)
            told.append(f"{name} " + ", ".join(f"{value} ({count})" for value, count in counts.items()))
        return "; ".join(told)

    @property
    def classes(self) -> tuple[int, int] | tuple[None, None]:
        """Classes that mAP is over, and all: of the run that leaves out the most, if every run tells."""
        told = [run.notes for run in self.scored if {"scored_classes", "classes"} <= run.notes.keys()]
        if self.metric != "mAP" or not told or len(told) < len(self.scored):
            return None, None
        worst = min(told, key=lambda notes: notes["scored_classes"] - notes["classes"])
        return worst["scored_classes"], worst["classes"]

    @property
    def clips(self) -> ClipCounts | None:
        """Of the run that leaves out the most."""
        return worst_counts(self.scored)


def rows_of(runs: Iterable[Run], by_fold: bool = False) -> list[Row]:
    """One row for each model, suite and protocol (and fold), in the order of the runs."""
    groups: dict[tuple[str, str, str, str | None], list[Run]] = defaultdict(list)
    for run in runs:
        groups[run.model, run.suite, run.protocol, run.fold if by_fold else None].append(run)
    return [Row(*key, group) for key, group in groups.items()]
