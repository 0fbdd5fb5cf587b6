"""Several models side by side: a table and a row of plots for each suite, with a model a line and a protocol a column."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sslam_lightning.evaluation.runs import Run
from sslam_lightning.evaluation.spread import Spread, means_of, spread
from sslam_lightning.whole_file import replacing


class Cell(NamedTuple):
    """The last scores of a model by a protocol. ``found`` is None where every run failed."""

    found: Spread | None
    of_each_seed: list[float]  # means over folds
    num_failed: int


class Comparison(NamedTuple):
    """The models of a suite, and the protocols, in the order of the runs."""

    suite: str
    metric: str
    models: list[str]
    protocols: list[str]
    cells: dict[tuple[str, str], Cell]  # (model, protocol); without those that have no run


def comparisons(runs: Sequence[Run]) -> list[Comparison]:
    """One for each suite on which several models were judged."""
    suites: dict[str, dict[tuple[str, str], list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        suites[run.suite][run.model, run.protocol].append(run)
    found = []
    for suite, groups in suites.items():
        models, protocols = (list(dict.fromkeys(names)) for names in zip(*groups, strict=True))
        if len(models) > 1:
            metric = next(iter(groups.values()))[0].metric
            found.append(Comparison(suite, metric, models, protocols, {key: _cell(group) for key, group in groups.items()}))
    return found


def markdown_rows(comparison: Comparison) -> list[list[str]]:
    """The head and the rows of the table, in %; the highest mean of each protocol is bold."""
    cells, highest = comparison.cells, dict[str, float]()
    for (_, protocol), cell in cells.items():
        if cell.found:
            highest[protocol] = max(highest.get(protocol, cell.found.mean), cell.found.mean)
    rows = [["model", *comparison.protocols]]
    for model in comparison.models:
        row = [(cells.get((model, protocol)), highest.get(protocol)) for protocol in comparison.protocols]
        rows.append([model, *(_told(cell, best) if cell else "" for cell, best in row)])
    return rows


def draw(found: Sequence[Comparison], target: Path) -> None:
    """Write a PNG: every seed's mean over folds a ring, the mean over all runs a dot."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    width = max(len(comparison.protocols) for comparison in found)
    heights = [0.9 + 0.26 * len(comparison.models) for comparison in found]
    figure, axes = pyplot.subplots(
        len(found),
        width,
        figsize=(2.5 + 2.6 * width, sum(heights)),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    for line, comparison in zip(axes, found, strict=True):
        models = comparison.models
        for axis in line[len(comparison.protocols) :]:
            axis.set_visible(False)
        for place, (axis, protocol) in enumerate(zip(line, comparison.protocols, strict=False)):
            for height, model in enumerate(models):
                cell = comparison.cells.get((model, protocol))
                if cell and cell.found:
                    axis.plot(100 * cell.found.mean, height, "o", color="tab:blue", markersize=6)
                    seeds = [100 * mean for mean in cell.of_each_seed]
                    axis.plot(seeds, [height] * len(seeds), "o", fillstyle="none", color="black", markersize=4)
            axis.set_title(f"{comparison.suite}, {protocol}", fontsize="medium")
            axis.set_xlabel(f"{comparison.metric} (%)")
            axis.set_yticks(range(len(models)), models if place == 0 else [""] * len(models))
            axis.set_ylim(len(models) - 0.5, -0.5)
            axis.grid(alpha=0.3)
    with replacing(target) as file:
        figure.savefig(file, format="png", dpi=120)
    pyplot.close(figure)


def _last(run: Run) -> float:
    return run.last


def _cell(runs: Sequence[Run]) -> Cell:
    whole = [run for run in runs if not run.failed]
    if not whole:
        return Cell(None, [], len(runs))
    return Cell(spread(whole, _last), means_of(whole, _last, lambda run: str(run.seed)), len(runs) - len(whole))


def _told(cell: Cell, highest: float | None) -> str:
    if cell.found is None:
        return "failed"
    told = f"{100 * cell.found.mean:.1f}"
    told = f"**{told}**" if cell.found.mean == highest else told
    told += "" if cell.found.of_seeds is None else f" ± {100 * cell.found.of_seeds:.1f}"
    return told + (f" ({cell.num_failed} failed)" if cell.num_failed else "")
