"""Several models side by side: a table and a row of plots for each suite, with a model a line and a protocol a column."""

from __future__ import annotations

import io
import json
import textwrap
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from sslam_lightning.evaluation.runs import Run
from sslam_lightning.evaluation.spread import Spread, means_of, spread
from sslam_lightning.whole_file import replacing

_LABEL_WIDTH = 40  # letters


class Cell(NamedTuple):
    """The last scores of a model by a protocol. ``found`` is None where every run failed.

    ``remark`` says why the cell compares with no other: runs that others have are missing, or were made otherwise.
    """

    found: Spread | None
    of_each_seed: list[float]  # means over folds
    num_failed: int
    remark: str = ""


class SideBySide(NamedTuple):
    """The models of a suite, and the protocols, in the order of the runs."""

    suite: str
    metric: str
    models: list[str]
    protocols: list[str]
    cells: dict[tuple[str, str], Cell]  # (model, protocol); without those that have no run


def side_by_side(runs: Sequence[Run]) -> list[SideBySide]:
    """One for each suite on which several models were judged."""
    suites: dict[str, dict[str, dict[str, list[Run]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for run in runs:
        suites[run.suite][run.protocol][run.model].append(run)
    found = []
    for suite, protocols in suites.items():
        models = list(dict.fromkeys(run.model for run in runs if run.suite == suite))
        if len(models) > 1:
            metric = next(run.metric for run in runs if run.suite == suite)
            cells = {
                (model, protocol): cell
                for protocol, by_model in protocols.items()
                for model, cell in _column(by_model).items()
            }
            found.append(SideBySide(suite, metric, models, list(protocols), cells))
    return found


def markdown_rows(suite: SideBySide) -> list[list[str]]:
    """The head and the rows of the table, in %; the best of several that compare is bold."""
    best = {}
    for protocol in suite.protocols:
        column = [suite.cells.get((model, protocol)) for model in suite.models]
        means = [cell.found.mean for cell in column if cell and cell.found and not cell.remark]
        best[protocol] = max(means) if len(means) > 1 else None
    rows = [["model", *suite.protocols]]
    for model in suite.models:
        row = [(suite.cells.get((model, protocol)), best[protocol]) for protocol in suite.protocols]
        rows.append([model, *(_told(cell, mean) if cell else "" for cell, mean in row)])
    return rows


def draw(suites: Sequence[SideBySide], target: Path) -> None:
    """Write a PNG: every seed's mean over folds a ring, the mean over all runs a dot."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    labels = [[textwrap.fill(model, _LABEL_WIDTH) for model in suite.models] for suite in suites]
    letters = max(len(line) for names in labels for name in names for line in name.splitlines())
    inches = [0.9 + 0.26 * sum(1 + name.count("\n") for name in names) for names in labels]
    width = max(len(suite.protocols) for suite in suites)
    figure, axes = pyplot.subplots(
        len(suites),
        width,
        figsize=(0.6 + 0.1 * letters + 2.6 * width, sum(inches)),
        height_ratios=inches,
        squeeze=False,
        layout="constrained",
    )
    for line, suite, names in zip(axes, suites, labels, strict=True):
        for axis in line[len(suite.protocols) :]:
            axis.set_visible(False)
        for place, (axis, protocol) in enumerate(zip(line, suite.protocols, strict=False)):
            for row, model in enumerate(suite.models):
                cell = suite.cells.get((model, protocol))
                if cell and cell.found:
                    axis.plot(100 * cell.found.mean, row, "o", color="tab:blue", markersize=6)
                    seeds = [100 * mean for mean in cell.of_each_seed]
                    axis.plot(seeds, [row] * len(seeds), "o", fillstyle="none", color="black", markersize=4)
            title = axis.set_title(textwrap.fill(f"{suite.suite}, {protocol}", 30), fontsize="medium")
            axis.set_xlabel(f"{suite.metric} (%)")
            axis.set_yticks(range(len(names)), names if place == 0 else [""] * len(names))
            for text in (title, *axis.get_yticklabels()):
                text.set_parse_math(False)  # a dollar in a name is one
            axis.set_ylim(len(names) - 0.5, -0.5)
            axis.grid(alpha=0.3)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    pyplot.close(figure)
    with replacing(target, several_writers=True) as file:
        file.write(picture.getvalue())


def _column(by_model: Mapping[str, Sequence[Run]]) -> dict[str, Cell]:
    """The cells of a protocol. They compare where their runs are of the same folds and seeds, made alike."""
    whole = {model: [run for run in runs if not run.failed] for model, runs in by_model.items()}
    everywhere = {(run.fold, run.seed) for runs in by_model.values() for run in runs}
    ways = Counter(way for runs in whole.values() for way in {_way(run) for run in runs})
    cells = {}
    for model, runs in by_model.items():
        good, num_failed = whole[model], len(runs) - len(whole[model])
        remark = "" if len(good) == len(everywhere) else f"{len(good)} of {len(everywhere)} runs"
        # What fewer models share than another way on the same fold is the exception.
        if any(ways[_way(run)] < max(ways[way] for way in ways if way[0] == run.fold) for run in good):
            remark = "other settings"
        seeds = means_of(good, _last, lambda run: str(run.seed))
        cells[model] = Cell(spread(good, _last) if good else None, seeds, num_failed, remark)
    return cells


def _way(run: Run) -> tuple[str, str]:
    """The fold, and all of the settings that is not about the model."""
    told = [run.settings.get(name) for name in ("data", "clips", "validation", "protocol")]
    return run.fold, json.dumps(told, sort_keys=True)


def _last(run: Run) -> float:
    return run.last


def _told(cell: Cell, best: float | None) -> str:
    if cell.found is None:
        return "failed"
    told = f"{100 * cell.found.mean:.1f}"
    told = f"**{told}**" if not cell.remark and cell.found.mean == best else told
    told += "" if cell.found.of_seeds is None else f" ± {100 * cell.found.of_seeds:.1f}"
    remarks = [cell.remark] * bool(cell.remark) + [f"{cell.num_failed} failed"] * bool(cell.num_failed)
    return told + (f" ({', '.join(remarks)})" if remarks else "")
