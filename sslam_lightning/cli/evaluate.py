"""``sslam evaluate``."""

from __future__ import annotations

import logging
import shlex
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from sslam_lightning.runtime.configs import config_folder


def evaluate(
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
    from sslam_lightning.cli.recordings import device_named
    from sslam_lightning.evaluation.runs import RunStore

    _check_options(suite, model, name, protocols, part, cache_gib, compare, only)
    protocols = [one for some in protocols for one in some.split(",") if one]
    stems = [Path(each).stem for each in (suite if compare is None else [compare])]
    runs = RunStore(Path(out or Path("runs/evaluate") / "_".join(stems)))
    common: dict[str, Any] = {"runs": runs, "seeds": seeds, "part": part, "data": data or {}, "features": features or {}}
    common |= {"device": device_named(device), "cache_bytes": cache_gib * 2**30, "command": command}
    if compare is not None:
        _judge(_compared(Path(compare), suite, protocols, only, common), runs)
    elif model is not None:
        _judge(_evaluations(suite, protocols, model, name or model, common), runs)


def _check_options(
    suite: Sequence[str],
    model: str | None,
    name: str | None,
    protocols: Sequence[str],
    part: str,
    cache_gib: float,
    compare: str | None,
    only: Sequence[str],
) -> None:
    from sslam_lightning.evaluation.model import Candidate

    if (compare is None) == (not model) or (compare is None and not suite):
        raise ValueError("give --suite and --model, or --compare without --model")
    if part == "teacher" and model and Candidate(model).is_random:
        raise ValueError(f"random weights have no teacher: leave part out with the model {model}")
    if protocols and not "".join(protocols).strip(","):
        raise ValueError(f"protocols names none, got {' '.join(protocols)}: leave it out for all that the suite has")
    if only and compare is None:
        raise ValueError(f"only chooses among the models of --compare: leave it out, got {' '.join(only)}")
    if name is not None and (compare is not None or not name.strip()):
        raise ValueError(f"name is that of --model in the table: give one, or leave it out, got {name!r}")
    if cache_gib < 0:
        raise ValueError(f"cache_gib must not be negative, got {cache_gib:g}")


def _evaluations(
    suites: Sequence[str], protocols: Sequence[str], model: str, name: str, common: dict[str, Any]
) -> list[Any]:
    from sslam_lightning.evaluation import Evaluation, read_suite

    print(f"sslam: judging {model}", file=sys.stderr)
    read = [read_suite(each, config_folder() / "downstream") for each in suites]
    return [Evaluation(each, model, name, protocols=protocols, **common) for each in read]


def _compared(
    path: Path, suites: Sequence[str], protocols: Sequence[str], only: Sequence[str], common: dict[str, Any]
) -> list[Any]:
    """Pre-train the models of a comparison; what remains is to judge them."""
    from sslam_lightning.cli.compare import pretrain, read_comparison, source
    from sslam_lightning.evaluation import read_suite
    from sslam_lightning.evaluation.suite import check_suite

    comparison, runs, data = read_comparison(path), common["runs"], common["data"]
    judged = [each for each, how in comparison.models.items() if how.judged]
    for kind, chosen, known in (("model", only, judged), ("suite", suites, comparison.suites)):
        if unknown := [each for each in chosen if each not in known]:
            raise ValueError(f"{path} has no {kind} {unknown[0]}, only {', '.join(known)}")
    suites, protocols = suites or comparison.suites, protocols or list(comparison.protocols)
    for each in suites:  # before hours of pre-training
        check_suite(read_suite(each, config_folder() / "downstream"), protocols, data)
    runs.claim()
    evaluations = []
    for each in only or judged:
        for args in pretrain(comparison, each, common["seeds"], runs.folder, data):
            print("sslam " + shlex.join(args), flush=True)
        evaluations += _evaluations(suites, protocols, source(comparison, each, runs.folder), each, common)
    return evaluations


def _judge(evaluations: Sequence[Any], runs: Any) -> None:
    """Run all that is to be run, and write the table."""
    from tqdm import tqdm

    from sslam_lightning.cli.fit.trainer import NOISE
    from sslam_lightning.evaluation.table import write_tables

    for noise in NOISE:
        warnings.filterwarnings("ignore", message=f".*{noise}")
    for log in ("lightning.pytorch", "lightning.fabric"):  # advice of Lightning's, once a run, would hide the results
        logging.getLogger(log).setLevel(logging.WARNING)
    runs.claim()
    failed = total = 0
    bars: dict[str, Any] = {"disable": None}  # on a terminal alone
    begun = set[Any]()  # whose line in a log has its first half
    try:
        with (
            tqdm(total=sum(map(len, evaluations)), unit="run", **bars) as over,
            tqdm(unit="clip", desc="encoding", leave=False, **bars) as clips,
        ):

            def start(key: Any) -> None:
                if over.disable:  # no terminal, which has the name in its bar
                    begun.add(key)
                    print(f"{key}: ", end="", flush=True)
                over.set_postfix_str(str(key))

            for evaluation in evaluations:
                for run, earlier in evaluation.run(clips.update, start):
                    over.update()
                    total, failed = total + 1, failed + bool(run.failed)
                    name = "" if run.key in begun else f"{run.key}: "
                    tqdm.write(name + run.told + (" (done before)" if earlier else ""), file=sys.stdout)
    except KeyboardInterrupt:
        print(f"sslam: {total} runs are in {runs.folder}; the same command goes on", file=sys.stderr)
        raise
    finally:  # an interrupted evaluation has a table too
        table = write_tables(runs.all(), runs.folder) if total else ""
    pictured = ", results.png" if (runs.folder / "results.png").is_file() else ""
    print(f"\n{table}\n{runs.folder}: results.md, results.csv, results_by_fold.csv, results.json{pictured}")
    broken = {name: why for evaluation in evaluations for name, why in evaluation.broken.items()}
    for name, why in broken.items():
        print(f"sslam: {why if name in why else f'{name}: {why}'}", file=sys.stderr)
    if broken:
        print(f"sslam: {len(broken)} clips could not be used; the table says how many of which scores", file=sys.stderr)
    if failed:
        print(f"sslam: {failed} of {total} runs failed; the table says why", file=sys.stderr)
        sys.exit(1)
