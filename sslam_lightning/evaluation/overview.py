"""Several models side by side: a table and a row of plots for each suite, with a model a line and a protocol a column."""

from __future__ import annotations

import io
import json
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sslam_lightning.evaluation.rows import Row, rows_of
from sslam_lightning.evaluation.runs import Run
from sslam_lightning.runtime.atomic_write import replacing

_LABEL_WIDTH = 40  # letters


@dataclass(frozen=True)
class SideBySide:
    """The models of a suite, and the protocols, in the order of the runs.

    ``cells`` are by model and protocol, without those that have no run. ``remarks`` say of some why they compare with no
    other: runs that others have are missing, or were made otherwise.
    """

    suite: str
    metric: str
    models: list[str]
    protocols: list[str]
    cells: dict[tuple[str, str], Row]
    remarks: dict[tuple[str, str], str]


def side_by_side(runs: Sequence[Run]) -> list[SideBySide]:
    """One for each suite on which several models were judged."""
    found = []
    for suite in dict.fromkeys(run.suite for run in runs):
        rows = rows_of(run for run in runs if run.suite == suite)
        models = list(dict.fromkeys(row.model for row in rows))
        protocols = list(dict.fromkeys(row.protocol for row in rows))
        if len(models) > 1:
            remarks: dict[tuple[str, str], str] = {}
            for protocol in protocols:
                remarks |= _remarks([row for row in rows if row.protocol == protocol])
            cells = {(row.model, row.protocol): row for row in rows}
            found.append(SideBySide(suite, rows[0].metric, models, protocols, cells, remarks))
    return found


def _remarks(column: Sequence[Row]) -> dict[tuple[str, str], str]:
    """Of a protocol's rows, which compare where their runs are of the same folds and seeds, made alike."""
    everywhere = {(run.fold, run.seed) for row in column for run in row.runs}
    ways = Counter(way for row in column for way in {_way(run) for run in row.scored})
    remarks = {}
    for row in column:
        # What fewer models share than another way on the same fold is the exception.
        if any(ways[_way(run)] < max(ways[way] for way in ways if way[0] == run.fold) for run in row.scored):
            remarks[row.model, row.protocol] = "other settings"
        elif row.num_runs < len(everywhere):
            remarks[row.model, row.protocol] = f"{row.num_runs} of {len(everywhere)} runs"
    return remarks


def _way(run: Run) -> tuple[str, str]:
    """The fold, and all of the settings that is not about the model."""
    told = [run.settings.get(name) for name in ("data", "clips", "validation", "protocol")]
    return run.fold, json.dumps(told, sort_keys=True)


def markdown_rows(suite: SideBySide) -> list[list[str]]:
    """The head and the rows of the table, in %; the best of several that compare is bold."""
    rows = [[model] for model in suite.models]
    for protocol in suite.protocols:
        places = [(model, protocol) for model in suite.models]
        cells = {place: suite.cells[place] for place in places if place in suite.cells}
        means = [row.last.mean for place, row in cells.items() if row.last and place not in suite.remarks]
        best = max(means) if len(means) > 1 else None
        for place, cell in zip(places, rows, strict=True):
            cell.append(_told(cells[place], suite.remarks.get(place), best) if place in cells else "")
    return [["model", *suite.protocols], *rows]


def _told(row: Row, remark: str | None, best: float | None) -> str:
    if (last := row.last) is None:
        return "failed"
    told = f"{100 * last.mean:.1f}"
    told = f"**{told}**" if not remark and last.mean == best else told
    told += "" if last.of_seeds is None else f" ± {100 * last.of_seeds:.1f}"
    remarks = [*([remark] if remark else []), *([f"{row.num_failed} failed"] if row.num_failed else [])]
    return told + (f" ({', '.join(remarks)})" if remarks else "")


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
                if cell and cell.last:
                    axis.plot(100 * cell.last.mean, row, "o", color="tab:blue", markersize=6)
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
