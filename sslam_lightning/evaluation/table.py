"""The table of all runs: Markdown and CSV by model, suite and protocol, and every single run as JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sslam_lightning.evaluation.overview import SideBySide, draw, markdown_rows, side_by_side
from sslam_lightning.evaluation.rows import Row, Spread, rows_of
from sslam_lightning.evaluation.runs import ClipCounts, Run
from sslam_lightning.evaluation.suite import PROTOCOLS
from sslam_lightning.runtime.atomic_write import replacing


def write_tables(runs: Sequence[Run], folder: Path) -> str:
    """Write ``results.md``, ``results.csv``, ``results_by_fold.csv``, ``results.json`` and, where there are several models
    to compare, ``results.png``; returns the first.
    """
    place = {name: number for number, name in enumerate(PROTOCOLS)}

    def order(run: Run) -> tuple[Any, ...]:  # so that the models of a protocol stand under each other
        return run.suite, place.get(run.protocol, len(place)), run.protocol, run.model, run.fold, run.seed

    runs = sorted(runs, key=order)
    suites = side_by_side(runs)
    text = markdown(suites, runs)
    singles = [{**asdict(run), **({} if run.failed else {"best": run.best, "last": run.last})} for run in runs]
    for name, content in (
        ("results.md", text),
        ("results.csv", _csv(rows_of(runs))),
        ("results_by_fold.csv", _csv(rows_of(runs, by_fold=True))),
        ("results.json", json.dumps(singles, indent=1) + "\n"),
    ):
        with replacing(folder / name, several_writers=True) as file:
            file.write(content.encode())
    if suites:
        draw(suites, folder / "results.png")
    return text


def markdown(suites: Sequence[SideBySide], runs: Sequence[Run]) -> str:
    """Models side by side where there are several, the whole table, failures, and where the numbers come from."""
    lines, rows = [], rows_of(runs)
    for suite in suites:
        title = f"{suite.suite}: {suite.metric} in %, *last* ± of seeds"
        lines += [title, "", *_table(*markdown_rows(suite)), ""]
    head = ("model", "suite", "protocol", "metric", "best", "last", "± of folds", "± of seeds", "runs", "chosen")
    lines += [*_table(head, *map(_cells, rows)), "", _legend(rows)]
    if failed := [run for run in runs if run.failed]:
        cells = [(run.model, run.suite, run.protocol, run.fold, str(run.seed), run.failed or "") for run in failed]
        lines += ["", "Failed:", "", *_table(("model", "suite", "protocol", "fold", "seed", "why"), *cells)]
    seeds = sorted({run.seed for run in runs})
    lines += ["", f"Seeds: {', '.join(map(str, seeds))}. Commit: {_listed(run.commit or 'unknown' for run in runs)}."]
    lines += [f"Hardware: {_listed(run.machine for run in runs)}. Run time: {_hours(sum(run.seconds for run in runs))}."]
    lines += ["", "```", *dict.fromkeys(run.command for run in runs if run.command), "```"]
    return "\n".join(lines) + "\n"


def _cells(row: Row) -> list[str]:
    best, last = row.best, row.last
    told = str(row.num_runs) + (f", {row.num_failed} failed" if row.num_failed else "")
    if _leaves_out_classes(row):
        told += ", {} of {} classes".format(*row.classes)
    if row.clips and row.clips.told:
        told += f", {row.clips.told}"
    deviations = [_points(last.of_folds), _points(last.of_seeds)] if last else ["", ""]
    return [row.model, row.suite, row.protocol, row.metric, _percent(best), _percent(last), *deviations, told, row.chosen]


def _legend(rows: Sequence[Row]) -> str:
    text = (
        "In %. *last*: the test clips scored when training had ended; *best*: the best of all their scores on the way, so "
        "chosen on them. Mean ± standard deviation over runs (folds x seeds); then that of the folds' means and of the "
        "seeds' means, of *last*. *chosen*: settings that were chosen on validation clips, and in how many runs."
    )
    if any(map(_leaves_out_classes, rows)):
        text += " mAP is the mean over the classes that a test clip has; *runs* says where those are not all."
    if any(row.clips and row.clips.told for row in rows):
        text += " Clips that cannot be read or are too short are left out: *runs* says how many, of the run with the most."
    return text


def _csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    fold = () if rows[0].fold is None else ("fold",)
    spreads = [f"{of}_{name}" for of in ("best", "last") for name in ("mean", "std_runs", "std_folds", "std_seeds")]
    ends = ("runs", "failed", "chosen", "scored_classes", "classes", *ClipCounts._fields)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["model", "suite", "protocol", *fold, "metric", *spreads, *ends])
    for row in rows:
        names = [row.model, row.suite, row.protocol, *((row.fold,) if fold else ()), row.metric]
        numbers = [number for found in (row.best, row.last) for number in found or [None] * len(Spread._fields)]
        counts = row.clips or [None] * len(ClipCounts._fields)
        writer.writerow([*names, *numbers, row.num_runs, row.num_failed, row.chosen, *row.classes, *counts])
    return text.getvalue()


def _leaves_out_classes(row: Row) -> bool:
    scored, classes = row.classes
    return scored != classes


def _percent(found: Spread | None) -> str:
    if found is None:
        return "failed"
    return f"{100 * found.mean:.1f}" + (f" ± {_points(found.of_runs)}" if found.of_runs is not None else "")


def _points(deviation: float | None) -> str:
    return "" if deviation is None else f"{100 * deviation:.1f}"


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"


def _listed(values: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(values))


def _table(head: Sequence[str], *rows: Sequence[str]) -> list[str]:
    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    return [line(head), "|" + "---|" * len(head), *map(line, rows)]
