"""``sslam evaluate``."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from sslam_lightning.runtime.configs import find_config


def run_evaluate(
    suite: Sequence[str] = (),
    model: str | None = None,
    name: str | None = None,
    protocols: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
    out: str | None = None,
    part: Literal["student", "teacher"] = "student",
    data: dict[str, Any] | None = None,
    features: dict[str, Any] | None = None,
    device: str = "auto",
    cache_gib: float = 20.0,
    compare: str | None = None,
    only: Sequence[str] = (),
    command: str = "",
) -> None:
    """Judge a model on labeled clips: every protocol, on every fold, with every seed. One table comes out.

    OUT/results.md, results.csv, results_by_fold.csv and results.json show all runs in OUT; another model with the same
    --out adds its rows, and results.png shows the models side by side. An interrupted evaluation goes on where it stopped
    when it is given again: what is done is not done again, what failed is. Scores are of the test clips: "last" when a
    protocol has ended its training, "best" the best on the way, which is chosen on the test clips.

    Args:
        suite: one or several, by name (configs/downstream) or as .yaml files; with --compare, some of its suites.
        model: a checkpoint of any kind, taken as it is (of a run name last.ckpt or best.ckpt), or a Hub id; the word "none"
            for random weights of the base size, a recipe's .yaml (or several, joined by commas) for those of that size.
            {fold} and {seed} stand for those of a run.
        name: of the model in the table; what --model says if left out.
        protocols: of linear, linear_published, knn, attentive, convex_gated, finetune and the suite's own, separated by
            commas or spaces; all that the suite has if left out.
        seeds: of everything random in the protocols, and of random weights.
        out: folder of the results; runs/evaluate/SUITE if left out.
        part: the student or the teacher of a pre-trained model.
        data: settings of the data module over the suite's, such as --data.root PATH.
        features: log-mel settings over those of checkpoint and suite, such as --features.num_frames 512.
        device: cpu, cuda, cuda:1 ...; auto takes a GPU where there is one.
        cache_gib: disk space for the features of all layers; what does not fit is computed anew whenever it is needed.
        compare: instead of --model, a list of recipes to pre-train with every seed, and the suites and
            protocols to judge each by (configs/downstream/compare).
        only: with --compare, names of some of its models.
        command: how the table says that it was made.
    """
    from sslam_lightning.evaluation.run import default_folder, evaluate
    from sslam_lightning.evaluation.runs import RunStore

    _check_options(suite, model, name, protocols, compare, only)
    protocols = [one for some in protocols for one in some.split(",") if one]
    folder = Path(out or default_folder(suite if compare is None else [compare]))
    settings: dict[str, Any] = {"seeds": seeds, "part": part, "data": data, "features": features}
    settings |= {"device": device, "cache_gib": cache_gib, "command": command}
    _quiet_lightning()
    try:
        if compare is not None:
            from sslam_lightning.cli.compare import compare_models

            path = Path(find_config(compare, "downstream/compare"))
            done = compare_models(path, suite, protocols, only, RunStore(folder), settings)
        else:
            assert model is not None, "has been asked for"
            print(f"sslam: judging {model}", file=sys.stderr)
            done = evaluate(suite, model, name, protocols, out=folder, progress=True, **settings)
    except KeyboardInterrupt:
        print(f"sslam: {len(RunStore(folder).all())} runs are in {folder}; the same command goes on", file=sys.stderr)
        raise
    _tell(done)


def _check_options(
    suite: Sequence[str],
    model: str | None,
    name: str | None,
    protocols: Sequence[str],
    compare: str | None,
    only: Sequence[str],
) -> None:
    if (compare is None) == (not model) or (compare is None and not suite):
        raise ValueError("give --suite and --model, or --compare without --model")
    if protocols and not "".join(protocols).strip(","):
        raise ValueError(f"protocols names none, got {' '.join(protocols)}: leave it out for all that the suite has")
    if only and compare is None:
        raise ValueError(f"only chooses among the models of --compare: leave it out, got {' '.join(only)}")
    if name is not None and (compare is not None or not name.strip()):
        raise ValueError(f"name is that of --model in the table: give one, or leave it out, got {name!r}")


def _quiet_lightning() -> None:
    """Its advice, once a run, would hide the results."""
    from sslam_lightning.cli.fit.trainer import NOISE

    for noise in NOISE:
        warnings.filterwarnings("ignore", message=f".*{noise}")
    for log in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(log).setLevel(logging.WARNING)


def _tell(done: Any) -> None:  # naming its class here would import torch for the help
    """The table, and what is missing in it, which is exit code 1 where runs failed."""
    pictured = ", results.png" if (done.folder / "results.png").is_file() else ""
    print(f"\n{done.table}\n{done.folder}: results.md, results.csv, results_by_fold.csv, results.json{pictured}")
    for name, why in done.broken.items():
        print(f"sslam: {why if name in why else f'{name}: {why}'}", file=sys.stderr)
    if done.broken:
        print(
            f"sslam: {len(done.broken)} clips could not be used; the table says how many of which scores", file=sys.stderr
        )
    if failed := sum(bool(run.failed) for run in done.runs):
        print(f"sslam: {failed} of {len(done.runs)} runs failed; the table says why", file=sys.stderr)
        sys.exit(1)
