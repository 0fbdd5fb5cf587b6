"""All protocols of a suite on all its folds, with all seeds, for one model; what is done is not done again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import torch

from sslam_lightning.benchmarks.machine import machine_name
from sslam_lightning.checkpoints import check_source
from sslam_lightning.checkpoints.settings import as_plain
from sslam_lightning.checkpoints.weights import Part
from sslam_lightning.data.modules.base import AudioDataModule
from sslam_lightning.default_dtype import float32_by_default
from sslam_lightning.evaluation.frozen import FeatureStore
from sslam_lightning.evaluation.model import Candidate
from sslam_lightning.evaluation.protocols.base import Protocol, Task
from sslam_lightning.evaluation.runs import Key, Run, RunStore
from sslam_lightning.evaluation.settings import build
from sslam_lightning.evaluation.suite import Suite, check_suite
from sslam_lightning.training.run.loggers import git_commit

NOT_ABOUT_SCORES = ("num_workers", "worker_timeout_seconds", "download")  # settings of data modules


@dataclass(frozen=True)
class Evaluation:
    """A model on a suite.

    Args:
        suite: the data and how to judge on it.
        source: see `Candidate`; ``{fold}`` and ``{seed}`` in it stand for those of a run, where every fold or seed has a
            checkpoint of its own.
        name: of the model, in the table.
        runs: where results are kept.
        protocols: by name; all of the suite if empty.
        seeds: of everything random in the protocols, and of random weights.
        part: the checkpoint's ``student`` or its ``teacher``.
        data: settings of the data module over the suite's.
        features: settings of the log-mels over the checkpoint's and the suite's.
        device: where to compute.
        cache_bytes: of the file that holds all layers' features.
        command: as the table quotes it.

    Raises:
        ValueError, OSError: if a checkpoint is not there, or settings are wrong.
    """

    suite: Suite
    source: str
    name: str
    runs: RunStore
    protocols: Sequence[str] = ()
    seeds: Sequence[int] = (0,)
    part: Part = "student"
    data: Mapping[str, Any] = field(default_factory=dict)
    features: Mapping[str, Any] = field(default_factory=dict)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    cache_bytes: float = 20 * 2**30
    command: str = ""
    broken: dict[str, str] = field(default_factory=dict, init=False)  # clips that could not be used so far, and why

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must be different numbers, at least one, got {list(self.seeds)}")
        if wrong := [seed for seed in self.seeds if not 0 <= seed < 2**32]:
            raise ValueError(f"seeds must lie between 0 and {2**32 - 1}, got {wrong[0]}")
        for seed, fold in product(self.seeds, self.suite.folds):
            candidate = self._candidate(fold, seed)
            if not candidate.is_random:
                check_source(candidate.source)
        check_suite(self.suite, self.protocols, self.data)

    def __len__(self) -> int:
        """Number of runs."""
        return len(self.protocols or self.suite.protocol_names) * len(self.seeds) * len(self.suite.folds)

    def run(
        self, progress: Callable[[int], Any] = lambda num_clips: None, starting: Callable[[Key], Any] = lambda key: None
    ) -> Iterator[tuple[Run, bool]]:
        """Every run when it is over, and whether an earlier call had done it.

        Args:
            progress: told the number of clips whenever some are encoded.
            starting: told the name of a run before it is done.

        Raises:
            ValueError, OSError: what stops all runs: the data, the first model, or results of other settings.
        """
        names = self.protocols or self.suite.protocol_names
        protocols = {name: self.suite.build_protocol(name) for name in names}
        store: FeatureStore | None = None
        for seed, fold in product(self.seeds, self.suite.folds):
            candidate = self._candidate(fold, seed)
            try:
                if store is None or store.model.candidate != candidate:
                    store = self._open(candidate, protocols.values(), progress)
            except (ValueError, OSError) as error:
                if store is None:  # the first one: the others will fare no better
                    raise
                for name in names:
                    yield self._failed(Key(self.name, self.suite.name, name, fold, seed), error), False
                continue
            task = self._task(store, fold, seed)
            for name, protocol in protocols.items():
                yield self._one(name, protocol, task, starting)

    @float32_by_default()
    def _open(self, candidate: Candidate, protocols: Iterable[Protocol], progress: Callable[[int], Any]) -> FeatureStore:
        max_bytes = self.cache_bytes if any(protocol.level == "layers" for protocol in protocols) else 0
        return FeatureStore(candidate.open(), self.device, self.runs.folder, max_bytes, self.suite.share_clips, progress)

    @float32_by_default()
    def _one(self, name: str, protocol: Protocol, task: Task, starting: Callable[[Key], Any]) -> tuple[Run, bool]:
        key = Key(self.name, self.suite.name, name, task.fold, task.seed)
        try:
            settings = self._settings(name, task)
        except Exception as error:  # the clips of this fold cannot be listed
            return self._failed(key, error), False
        of_fold = {setting for fold in self.suite.folds.values() for setting in fold}
        if earlier := self.runs.done(key, settings, of_fold):
            return earlier, True
        starting(key)
        start = time.perf_counter()
        try:
            outcome = protocol.run(task)
            counts = task.clip_counts()._asdict() if protocol.level else {}
        except Exception as error:
            return self._failed(key, error, settings), False
        finally:
            self.broken.update(task.store.broken)
        notes = {**counts, **outcome.notes, "classes": task.num_classes}
        found = {"scores": outcome.scores, "chosen": outcome.chosen, "notes": notes}
        return self._over(key, settings, seconds=time.perf_counter() - start, **found), False

    def _failed(self, key: Key, error: Exception, settings: Mapping[str, Any] | None = None) -> Run:
        kind = "" if isinstance(error, (ValueError, OSError)) else f"{type(error).__name__}: "
        reason = kind + " ".join(str(error).split())[:300]
        return self._over(key, settings or {}, failed=reason or type(error).__name__)

    def _over(self, key: Key, settings: Mapping[str, Any], **found: Any) -> Run:
        """Keep a run, with where it comes from."""
        device = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else machine_name()
        run = Run(
            **key._asdict(),
            metric=self.suite.metric,
            settings=settings,
            machine=f"{device}, torch {torch.__version__}",
            commit=git_commit(),
            command=self.command,
            **found,
        )
        self.runs.add(run)
        return run

    def _candidate(self, fold: str, seed: int) -> Candidate:
        source = self.source.replace("{fold}", fold).replace("{seed}", str(seed))
        candidate = Candidate(source, self.part, seed, self.features, self.suite.features)
        return candidate if candidate.is_random else replace(candidate, seed=0)

    def _task(self, store: FeatureStore, fold: str, seed: int) -> Task:
        model, metric = store.model, self.suite.metric

        def make_data(**settings: Any) -> Any:
            under = {"resampler": model.resampler, "sample_rate_hz": model.sample_rate_hz}
            described = self.suite.data_settings(fold, {**self.data, **settings}, under)
            data = build(AudioDataModule, "data", described)
            data.min_samples = model.min_samples
            return data

        task = Task(model, make_data, metric, self.suite.validation, fold, seed, self.device, store)
        if (metric == "accuracy") == task.data.multi_label and metric in ("accuracy", "mAP"):
            several = "several classes" if task.data.multi_label else "one class"
            raise ValueError(f"{self.suite.name}: the metric is {metric}, but its clips are of {several}")
        return task

    def _settings(self, name: str, task: Task) -> dict[str, Any]:
        """All that a score depends on."""
        model = task.model
        data = self.suite.data_settings(task.fold, self.data, {})
        data["init_args"] = {key: value for key, value in data["init_args"].items() if key not in NOT_ABOUT_SCORES}
        return {
            "weights": model.digest,
            "encoder": as_plain(model.encoder.config),
            "resampler": model.resampler,
            "features": None if model.features is None else dict(vars(model.features)),
            "num_frames": model.num_frames,
            "data": data,
            "clips": task.clip_digests,
            "validation": task.validation,
            "protocol": self.suite.protocol_settings(name),
        }
