"""The table of all runs: Markdown and CSV by model, suite and protocol, and every single run as JSON."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from sslam_lightning.evaluation.clip_counts import ClipCounts, worst_of
from sslam_lightning.evaluation.overview import SideBySide, draw, markdown_rows, side_by_side
from sslam_lightning.evaluation.runs import Run
from sslam_lightning.evaluation.spread import Spread, spread
from sslam_lightning.evaluation.suite import PROTOCOLS
from sslam_lightning.whole_file import replacing


class Row(NamedTuple):
    """What a model reaches on a suite by a protocol. ``best`` and ``last`` are None where no run has a score.

    ``scored_classes`` are those that mAP is over, of ``classes``, in the run that leaves out the most; None for other
    metrics, and where a run of an older version does not tell. ``clips`` are likewise of the run that leaves out the most.
    """

    model: str
    suite: str
    protocol: str
    metric: str
    best: Spread | None
    last: Spread | None
    num_runs: int
    num_failed: int
    chosen: str
    scored_classes: int | None
    classes: int | None
    clips: ClipCounts | None


def rows_of(runs: Iterable[Run]) -> list[Row]:
    """One row for each model, suite and protocol, in the order of the runs."""
    groups: dict[tuple[str, str, str], list[Run]] = defaultdict(list)
    for run in runs:
        groups[run.model, run.suite, run.protocol].append(run)
    rows = []
    for (model, suite, protocol), group in groups.items():
        whole = [run for run in group if not run.failed]
        best, last = (spread(whole, value) if whole else None for value in (lambda run: run.best, lambda run: run.last))
        failed = len(group) - len(whole)
        noted = (*_classes(whole), worst_of(run.notes for run in whole))
        rows.append(Row(model, suite, protocol, group[0].metric, best, last, len(whole), failed, _chosen(whole), *noted))
    return rows


def write_tables(runs: Sequence[Run], folder: Path) -> str:
    """Write ``results.md``, ``results.csv``, ``results_by_fold.csv``, ``results.json`` and, where there are several models
    to compare, ``results.png``; returns the first.
    """
    runs = _in_order(runs)
    rows = rows_of(runs)
    suites = side_by_side(runs)
    text = markdown(suites, rows, runs)
    for name, content in (
        ("results.md", text),
        ("results.csv", _csv(rows)),
        ("results_by_fold.csv", _csv(*_by_fold(runs))),
        ("results.json", json.dumps([_told(run) for run in runs], indent=1) + "\n"),
    ):
        with replacing(folder / name, several_writers=True) as file:
            file.write(content.encode())
    if suites:
        draw(suites, folder / "results.png")
    return text


def markdown(suites: Sequence[SideBySide], rows: Sequence[Row], runs: Sequence[Run]) -> str:
    """Models side by side where there are several, the whole table, failures, and where the numbers come from."""
    lines = []
    for suite in suites:
        columns, *cells = markdown_rows(suite)
        title = f"{suite.suite}: {suite.metric} in %, *last* ± of seeds"
        lines += [title, "", *_table(columns, cells), ""]
    head = ("model", "suite", "protocol", "metric", "best", "last", "± of folds", "± of seeds", "runs", "chosen")
    lines += _table(
        head,
        [
            (
                *row[:4],
                _percent(row.best),
                _percent(row.last),
                _points(row.last.of_folds) if row.last else "",
                _points(row.last.of_seeds) if row.last else "",
                _runs(row),
                row.chosen,
            )
            for row in rows
        ],
    )
    lines += [
        "",
        "In %. *last*: the test clips scored when training had ended; *best*: the best of all their scores on the way, so "
        "chosen on them. Mean ± standard deviation over runs (folds x seeds); then that of the folds' means and of the "
        "seeds' means, of *last*. *chosen*: settings that were chosen on validation clips, and in how many runs.",
    ]
    if any(map(_leaves_out_classes, rows)):
        lines[-1] += " mAP is the mean over the classes that a test clip has; *runs* says where those are not all."
    if any(row.clips and row.clips.told for row in rows):
        lines[-1] += (
            " Clips that cannot be read or are too short are left out: *runs* says how many, of the run with the most."
        )
    if failed := [run for run in runs if run.failed]:
        lines += ["", "Failed:", ""]
        lines += _table(
            ("model", "suite", "protocol", "fold", "seed", "why"),
            [(run.model, run.suite, run.protocol, run.fold, str(run.seed), run.failed or "") for run in failed],
        )
    seeds = sorted({run.seed for run in runs})
    lines += ["", f"Seeds: {', '.join(map(str, seeds))}. Commit: {_listed(run.commit or 'unknown' for run in runs)}."]
    lines += [f"Hardware: {_listed(run.machine for run in runs)}. Run time: {_hours(sum(run.seconds for run in runs))}."]
    lines += ["", "```", *dict.fromkeys(run.command for run in runs if run.command), "```"]
    return "\n".join(lines) + "\n"


def _by_fold(runs: Sequence[Run]) -> tuple[list[Row], list[str]]:
    """A row for every fold, and which: where folds are data of their own kind, such as scenes, a mean hides them."""
    groups: dict[tuple[str, str, str, str], list[Run]] = defaultdict(list)
    for run in runs:
        groups[run.model, run.suite, run.protocol, run.fold].append(run)
    return [row for group in groups.values() for row in rows_of(group)], [fold for *_, fold in groups]


def _csv(rows: Sequence[Row], folds: Sequence[str] | None = None) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    deviations = [
        f"{of}_{what}"
        for of in ("best", "last")
        for what in ("mean", *(name.replace("of", "std") for name in Spread._fields[1:]))
    ]
    fold = [] if folds is None else ["fold"]
    last = ("runs", "failed", "chosen", "scored_classes", "classes", *ClipCounts._fields)
    writer.writerow(["model", "suite", "protocol", *fold, "metric", *deviations, *last])
    for number, row in enumerate(rows):
        numbers = [number for found in (row.best, row.last) for number in (found or Spread(*[None] * 4))]  # type: ignore[arg-type]
        of_fold = [] if folds is None else [folds[number]]
        ends = (row.num_runs, row.num_failed, row.chosen, row.scored_classes, row.classes, *(row.clips or [None] * 3))
        writer.writerow([*row[:3], *of_fold, row.metric, *numbers, *ends])
    return text.getvalue()


def _told(run: Run) -> dict[str, object]:
    scores = {} if run.failed else {"best": run.best, "last": run.last}
    return {**asdict(run), **scores}


def _in_order(runs: Sequence[Run]) -> list[Run]:
    """By suite, protocol and model, so that models stand under each other; then by fold and seed."""
    place = {name: number for number, name in enumerate(PROTOCOLS)}
    return sorted(
        runs, key=lambda run: (run.suite, place.get(run.protocol, len(place)), run.protocol, run.model, run.fold, run.seed)
    )


def _chosen(runs: Sequence[Run]) -> str:
    """``learning_rate 0.001 (4), 0.003 (1)``, and so on for every setting."""
    told = []
    for name in dict.fromkeys(name for run in runs for name in run.chosen):
        counts = Counter(str(run.chosen[name]) for run in runs)
        told.append(f"{name} " + ", ".join(f"{value} ({count})" for value, count in counts.items()))
    return "; ".join(told)


def _classes(runs: Sequence[Run]) -> tuple[int | None, int | None]:
    """Scored classes, and all: of the run that leaves out the most, if every run tells."""
    told = [run.notes for run in runs if run.metric == "mAP" and {"scored_classes", "classes"} <= run.notes.keys()]
    pairs = [(notes["scored_classes"], notes["classes"]) for notes in told]
    return min(pairs, key=lambda pair: pair[0] - pair[1]) if pairs and len(pairs) == len(runs) else (None, None)


def _leaves_out_classes(row: Row) -> bool:
    return row.scored_classes != row.classes


def _runs(row: Row) -> str:
    told = str(row.num_runs) + (f", {row.num_failed} failed" if row.num_failed else "")
    told += f", {row.scored_classes} of {row.classes} classes" if _leaves_out_classes(row) else ""
    return told + (f", {row.clips.told}" if row.clips and row.clips.told else "")


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


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    return [line(head), "|" + "---|" * len(head), *(line(row) for row in rows)]
