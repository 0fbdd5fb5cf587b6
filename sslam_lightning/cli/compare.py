"""``sslam evaluate --compare``: pre-train a list of recipes on one budget, then judge each on the same suites."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from sslam_lightning.runtime.configs import config_folder, find_config

if TYPE_CHECKING:
    from sslam_lightning.evaluation.run import Evaluated
    from sslam_lightning.evaluation.runs import RunStore

# Files of a pre-training: it is over, what it was started with, held while it runs.
_DONE, _SETTINGS, _LOCK = "done", "settings.json", "lock"


@dataclass(frozen=True)
class Pretraining:
    """One run of ``sslam fit`` per seed.

    Args:
        configs: files under ``configs/`` that are layered.
        set: keys set behind them.
        after: the name of the entry whose checkpoint it starts from.
        random: instead of all this, recipes (joined by commas) whose encoder keeps its random weights.
        judged: False for what only others start from.
    """

    configs: Sequence[str] = ()
    set: Mapping[str, Any] = field(default_factory=dict)
    after: str | None = None
    random: str | None = None
    judged: bool = True


@dataclass(frozen=True)
class Comparison:
    """The content of a comparison's file.

    Args:
        suites: names of suites.
        protocols: of them.
        models: name -> how it is made.
        set: keys set behind those of every pre-training.
    """

    suites: Sequence[str] = ()
    protocols: Sequence[str] = ()
    models: Mapping[str, Pretraining] = field(default_factory=dict)
    set: Mapping[str, Any] = field(default_factory=dict)


def read_comparison(path: Path) -> Comparison:
    """The comparison of a file.

    Raises:
        FileNotFoundError: if there is none, or a file that it names.
        ValueError: naming what is wrong in it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no comparison at {path}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no YAML file: {str(error).splitlines()[0]}") from None
    comparison = _settings_in(Comparison, content, f"{path}: ")
    if not comparison.models or not comparison.suites:
        raise ValueError(f"{path} needs suites and models")
    models: dict[str, Pretraining] = {}
    for name, settings in comparison.models.items():
        where = f"{path}: models.{name}"
        model = _settings_in(Pretraining, settings, f"{where}: ")
        if bool(model.configs) == bool(model.random):
            raise ValueError(f"{where} needs either configs or random")
        if model.after is not None and model.after not in models:
            raise ValueError(f"{where} starts after {model.after}, which does not stand above it")
        for file in (*model.configs, *filter(None, (model.random or "").split(","))):
            if not Path(find_config(file)).is_file():
                raise FileNotFoundError(f"{where} names configs/{file}.yaml, which does not exist")
        models[str(name)] = model
    return replace(comparison, models=models)


def _settings_in(kind: type[Any], content: Any, where: str) -> Any:
    known = [one.name for one in fields(kind)]
    if not isinstance(content, Mapping):
        raise ValueError(f"{where}expected a table of {', '.join(known)}")
    if unknown := [key for key in content if key not in known]:
        raise ValueError(f"{where}there is no setting {unknown[0]}, only {', '.join(known)}")
    return kind(**content)


def arguments(comparison: Comparison, name: str, seed: int, folder: Path, data: Mapping[str, Any]) -> list[str]:
    """What ``sslam`` is called with to pre-train a model."""
    model = comparison.models[name]
    args = ["fit"]
    for config in model.configs:
        args += ["--config", config]
    start = None if model.after is None else f"{run_folder(folder, model.after, seed)}/checkpoints/last.ckpt"
    keys = _keys(comparison, name, data)
    keys |= {"model.init_from": start, "seed_everything": seed, "trainer.default_root_dir": run_folder(folder, name, seed)}
    return [*args, *(f"--{key}={'null' if value is None else value}" for key, value in keys.items()), "--ckpt_path=last"]


def _keys(comparison: Comparison, name: str, data: Mapping[str, Any]) -> dict[str, Any]:
    return {**comparison.set, **{f"data.{key}": value for key, value in data.items()}, **comparison.models[name].set}


def _settings(comparison: Comparison, name: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """What the weights depend on; not where files lie, so that a folder of results may be called from anywhere."""
    from sslam_lightning.evaluation.evaluate import NOT_ABOUT_SCORES

    model, left_out = comparison.models[name], {f"data.{key}" for key in NOT_ABOUT_SCORES}
    keys = {key: value for key, value in _keys(comparison, name, data).items() if key not in left_out}
    return json.loads(json.dumps({"configs": list(model.configs), "after": model.after, **keys}, default=str))


def run_folder(folder: Path, name: str, seed: int | str) -> Path:
    """Where a pre-training lies."""
    return folder / "pretrained" / f"{name.replace('/', '-').replace(' ', '_')}_seed{seed}"


def pretrain(
    comparison: Comparison, name: str, seeds: Sequence[int], folder: Path, data: Mapping[str, Any]
) -> Iterator[list[str]]:
    """Pre-train a model, and what it starts from, with every seed; yields the arguments of each run before it starts.

    A run that is over is not done again, an interrupted one goes on.

    Raises:
        ValueError: if such a run was started with other settings.
        OSError: if another process is at it.
    """
    from sslam_lightning.cli import run_trainer
    from sslam_lightning.runtime.lock import hold

    model = comparison.models[name]
    if model.random:
        return
    if model.after is not None:
        yield from pretrain(comparison, model.after, seeds, folder, data)
    for seed in seeds:
        run = run_folder(folder, name, seed)
        settings = _settings(comparison, name, data)
        _refuse_other_settings(run, settings)
        if (run / _DONE).is_file():
            continue
        run.mkdir(parents=True, exist_ok=True)
        with (run / _LOCK).open("wb") as file:
            hold(file, str(run))
            yield (args := arguments(comparison, name, seed, folder, data))
            (run / _SETTINGS).write_text(json.dumps(settings, indent=1) + "\n")
            run_trainer(args)
            (run / _DONE).touch()


def _refuse_other_settings(run: Path, settings: Mapping[str, Any]) -> None:
    from sslam_lightning.evaluation.runs import difference

    if not (run / _DONE).is_file() and not (run / "checkpoints").is_dir():
        return
    path = run / _SETTINGS
    if not path.is_file():
        raise ValueError(f"{run} does not say with which settings it was pre-trained: move it away, and it is made again")
    if found := difference(json.loads(path.read_text()), settings):
        raise ValueError(
            f"{run} was pre-trained with other settings: {found}. Name another folder with --out, or move this one away"
        )


def source(comparison: Comparison, name: str, folder: Path) -> str:
    """What ``--model`` is for a model of the comparison."""
    if recipes := comparison.models[name].random:
        return ",".join(os.path.relpath(find_config(each)) for each in recipes.split(","))
    return f"{run_folder(folder, name, '{seed}')}/checkpoints/last.ckpt"


def compare_models(
    path: Path,
    suites: Sequence[str],
    protocols: Sequence[str],
    only: Sequence[str],
    runs: RunStore,
    settings: dict[str, Any],
) -> Evaluated:
    """Pre-train the models of a comparison, and judge them.

    Args:
        path: the comparison.
        suites, protocols, only: some of its suites, protocols and models; all if empty.
        runs: where results are kept.
        settings: those of :func:`sslam_lightning.evaluation.run.evaluations`.
    """
    from sslam_lightning.evaluation import read_suite
    from sslam_lightning.evaluation.run import cache_bytes, evaluations, judge
    from sslam_lightning.evaluation.suite import check_suite

    cache_bytes(settings["cache_gib"])  # these checks before hours of pre-training
    comparison, data = read_comparison(path), settings["data"] or {}
    judged = [each for each, how in comparison.models.items() if how.judged]
    for kind, chosen, known in (("model", only, judged), ("suite", suites, comparison.suites)):
        if unknown := [each for each in chosen if each not in known]:
            raise ValueError(f"{path} has no {kind} {unknown[0]}, only {', '.join(known)}")
    suites, protocols = suites or comparison.suites, protocols or list(comparison.protocols)
    for each in suites:
        check_suite(read_suite(find_config(each, "downstream"), config_folder() / "downstream"), protocols, data)
    runs.claim()
    found = []
    for each in only or judged:
        for args in pretrain(comparison, each, settings["seeds"], runs.folder, data):
            print("sslam " + shlex.join(args), flush=True)
        model = source(comparison, each, runs.folder)
        print(f"sslam: judging {model}", file=sys.stderr)
        found += evaluations(suites, model, each, runs, protocols=protocols, **settings)
    return judge(found, runs, progress=True)
