"""``sslam_lightning.evaluate``: a model on suites, and the tables of what came out."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from sslam_lightning.checkpoints.weights import Part
from sslam_lightning.evaluation.evaluate import Evaluation
from sslam_lightning.evaluation.model import Candidate
from sslam_lightning.evaluation.runs import Key, Run, RunStore
from sslam_lightning.evaluation.suite import read_suite
from sslam_lightning.evaluation.table import write_tables
from sslam_lightning.runtime.configs import config_folder, find_config
from sslam_lightning.runtime.devices import device_named


class Evaluated(NamedTuple):
    """What an evaluation has found; its tables lie in ``folder``."""

    runs: list[Run]  # every protocol on every fold with every seed, those done before too
    table: str  # results.md: all runs in the folder, also those of other models
    folder: Path
    broken: dict[str, str]  # clips that could not be used, and why


def evaluate(
    suite: str | Sequence[str],
    model: str,
    name: str | None = None,
    protocols: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
    out: str | Path | None = None,
    part: Part = "student",
    data: Mapping[str, Any] | None = None,
    features: Mapping[str, Any] | None = None,
    device: str = "auto",
    cache_gib: float = 20.0,
    command: str = "",
    progress: bool = False,
) -> Evaluated:
    """Judge a model on labeled clips: every protocol, on every fold, with every seed; the function of ``sslam evaluate``.

    What an earlier call with the same ``out`` has done is not done again.

    Args:
        suite: one or several, by name (``configs/downstream``) or as .yaml files.
        model: a checkpoint of any kind, a Hub id, "none" or a recipe for random weights.
        name, protocols, seeds, part, data, features, device, cache_gib: see ``sslam evaluate --help``.
        out: folder of the results; runs/evaluate/SUITE if left out.
        command: how the table says that it was made.
        progress: whether to print each run as it ends, and to draw bars on a terminal.

    Raises:
        ValueError, OSError: in one line, if the model, a suite or a setting cannot be used. A run that fails does not
            stop the others: its ``failed`` says why.
    """
    suites = [suite] if isinstance(suite, str) else suite
    if part == "teacher" and Candidate(model).is_random:
        raise ValueError(f"random weights have no teacher: leave part out with the model {model}")
    runs = RunStore(Path(out or default_folder(suites)))
    found = evaluations(
        suites,
        model,
        name or model,
        runs,
        data,
        features,
        device,
        cache_gib,
        protocols=protocols,
        seeds=seeds,
        part=part,
        command=command,
    )
    return judge(found, runs, progress)


def default_folder(names: Sequence[str]) -> Path:
    """Where results lie, unless ``out`` says where."""
    return Path("runs/evaluate") / "_".join(Path(name).stem for name in names)


def evaluations(
    suites: Sequence[str],
    model: str,
    name: str,
    runs: RunStore,
    data: Mapping[str, Any] | None = None,
    features: Mapping[str, Any] | None = None,
    device: str = "auto",
    cache_gib: float = 20.0,
    **settings: Any,
) -> list[Evaluation]:
    """A model on each of these suites; options as those of :func:`evaluate`."""
    settings |= {"data": data or {}, "features": features or {}}
    settings |= {"device": device_named(device), "cache_bytes": cache_bytes(cache_gib)}
    read = [read_suite(find_config(each, "downstream"), config_folder() / "downstream") for each in suites]
    return [Evaluation(each, model, name, runs, **settings) for each in read]


def cache_bytes(gib: float) -> float:
    """The space for features of all layers; ValueError if it is negative."""
    if gib < 0:
        raise ValueError(f"cache_gib must not be negative, got {gib:g}")
    return gib * 2**30


def judge(evaluations: Sequence[Evaluation], runs: RunStore, progress: bool) -> Evaluated:
    """Run all that is to be run, and write the tables, of an interrupted evaluation too."""
    runs.claim()
    over: list[Run] = []
    try:
        with (
            tqdm(total=sum(map(len, evaluations)), unit="run", disable=None if progress else True) as bar,
            tqdm(unit="clip", desc="encoding", leave=False, disable=None if progress else True) as clips,
        ):
            terminal = _Terminal(bar) if progress else None
            for evaluation in evaluations:
                for run, earlier in evaluation.run(clips.update, terminal.start if terminal else lambda key: None):
                    bar.update()
                    over.append(run)
                    if terminal:
                        terminal.tell(run, earlier)
    finally:
        table = write_tables(runs.all(), runs.folder) if over else ""
    broken = {name: why for evaluation in evaluations for name, why in evaluation.broken.items()}
    return Evaluated(over, table, runs.folder, broken)


class _Terminal:
    """A line for every run; without a terminal its first half is printed when the run starts."""

    def __init__(self, bar: Any) -> None:
        self.bar, self.begun = bar, set[Key]()

    def start(self, key: Key) -> None:
        if self.bar.disable:  # no terminal, which has the name in its bar
            self.begun.add(key)
            print(f"{key}: ", end="", flush=True)
        self.bar.set_postfix_str(str(key))

    def tell(self, run: Run, earlier: bool) -> None:
        name = "" if run.key in self.begun else f"{run.key}: "
        tqdm.write(name + run.told + (" (done before)" if earlier else ""), file=sys.stdout)
