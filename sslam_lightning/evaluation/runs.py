"""The runs of a table: one JSON file each, written when a run is over, so that what is done is not done again."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from sslam_lightning.runtime.atomic_write import replacing


class Key(NamedTuple):
    """What a run is called."""

    model: str
    suite: str
    protocol: str
    fold: str
    seed: int

    def __str__(self) -> str:
        return f"{self.model}, {self.suite}, {self.protocol}, fold {self.fold}, seed {self.seed}"


class ClipCounts(NamedTuple):
    """The test clips of a run; how many of them, and of the training clips, could not be read or were too short.

    A run keeps them in its notes, under these names.
    """

    test_clips: int
    broken_test_clips: int
    broken_train_clips: int

    @property
    def told(self) -> str:
        """What was left out; nothing where all could be read."""
        test = [f"{self.broken_test_clips} of {self.test_clips} test clips"] * bool(self.broken_test_clips)
        train = [f"{self.broken_train_clips} training clips"] * bool(self.broken_train_clips)
        return "without " + " and ".join(test + train) if test or train else ""


@dataclass(frozen=True)
class Run:
    """One protocol on one fold with one seed, over.

    ``settings`` are all that the scores depend on, but for the code: a run of other settings is another run. ``failed`` is
    the reason of a run without scores.
    """

    model: str
    suite: str
    protocol: str
    fold: str
    seed: int
    metric: str
    settings: Mapping[str, Any]
    scores: list[float] = field(default_factory=list)
    failed: str | None = None
    chosen: Mapping[str, Any] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    machine: str = ""
    commit: str | None = None
    command: str = ""

    @property
    def key(self) -> Key:
        return Key(self.model, self.suite, self.protocol, self.fold, self.seed)

    @property
    def best(self) -> float:
        """The best of all evaluations; it was chosen on the test clips."""
        return max(self.scores)

    @property
    def last(self) -> float:
        return self.scores[-1]

    @property
    def told(self) -> str:
        if self.failed:
            return f"failed: {self.failed}"
        counts = worst_counts([self])
        without = f", {counts.told}" if counts and counts.told else ""
        return f"{self.metric} last {100 * self.last:.1f}, best {100 * self.best:.1f}{without}, in {self.seconds:.0f} s"


def worst_counts(runs: Iterable[Run]) -> ClipCounts | None:
    """The counts of the run that leaves out the most; None where no run tells, as those of older versions."""
    names = ClipCounts._fields
    told = [ClipCounts(*(run.notes[name] for name in names)) for run in runs if run.notes.keys() >= set(names)]
    return max(told, key=lambda counts: counts[1:], default=None)


class RunStore:
    """The folder of a table.

    Raises:
        FileExistsError: if the folder holds something else.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._runs = folder, folder / "runs"
        if folder.exists() and not self._runs.is_dir() and (not folder.is_dir() or any(folder.iterdir())):
            raise FileExistsError(f"{folder} holds something else than results of evaluate: name another folder with --out")

    def claim(self) -> None:
        """Make the folder, so that whoever comes later, or again, knows it for what it is."""
        self._runs.mkdir(parents=True, exist_ok=True)

    def done(self, key: Key, settings: Mapping[str, Any], of_fold: Collection[str] = ()) -> Run | None:
        """The run of this name if it is over; one that failed is not, and may be tried again.

        Runs of other folds and seeds end in one row with it, so they have to be of the same settings, but for the weights
        and, of other folds, the clips and ``of_fold``: the settings of the data in which folds differ.

        Raises:
            ValueError: if it, or one of those, was made with other settings.
        """
        settings = json.loads(json.dumps(settings))  # tuples as lists, as in the files
        path = self._path(key)
        run = _read(path) if path.is_file() else None
        others = (_read(other) for other in sorted(path.parent.glob("*.json")) if other != path)
        for earlier in filter(None, (run, *others)):
            old, new = earlier.settings, settings
            if earlier.key != key:
                left_out = None if earlier.fold == key.fold else of_fold
                old, new = _shared(old, left_out), _shared(new, left_out)
            if not earlier.failed and (found := difference(old, new)):
                raise ValueError(
                    f"{self.folder} holds a run of {earlier.key} with other settings: {found}. Name another folder with "
                    "--out, or another model with --name"
                )
        return None if run is None or run.failed else run

    def add(self, run: Run) -> None:
        """Keep a run, whole or not at all; one that failed never takes the place of one with scores."""
        path = self._path(run.key)
        if run.failed and path.is_file() and not _read(path).failed:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, several_writers=True) as file:
            file.write(json.dumps(asdict(run), indent=1).encode())

    def all(self) -> list[Run]:
        return [_read(path) for path in sorted(self._runs.rglob("*.json"))]

    def _path(self, key: Key) -> Path:
        folders = [_as_file_name(part) for part in (key.model, key.suite, key.protocol)]
        return self._runs.joinpath(*folders, f"fold_{_as_file_name(key.fold)}_seed_{key.seed}.json")


def _read(path: Path) -> Run:
    try:
        return Run(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is no run of evaluate ({error}): move it away, and it is made again") from None


def _as_file_name(name: str) -> str:
    return re.sub(r"[^\w.+-]", lambda match: f"%{ord(match[0]):02x}", name).lstrip(".") or "_"


def _shared(settings: Mapping[str, Any], of_fold: Collection[str] | None) -> dict[str, Any]:
    """What runs of one row have in common; None: runs of one fold."""
    left_out = ("weights",) if of_fold is None else ("weights", "clips")
    shared = {name: value for name, value in settings.items() if name not in left_out}
    if of_fold and "data" in shared:
        init_args = {name: value for name, value in shared["data"]["init_args"].items() if name not in of_fold}
        shared["data"] = {**shared["data"], "init_args": init_args}
    return shared


def difference(old: Any, new: Any, where: str = "") -> str | None:
    """The first setting that differs, in words."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in (*old, *(name for name in new if name not in old)):
            if found := difference(old.get(name), new.get(name), f"{where}.{name}" if where else str(name)):
                return found
        return None
    return None if old == new else f"{where} was {old}, is {new}"
