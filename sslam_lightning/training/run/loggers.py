"""Weights & Biases as one run from the first process to the last, however often it is resumed."""

from __future__ import annotations

import secrets
import signal
import subprocess
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from sslam_lightning.runtime.signals import kept_from_children
from sslam_lightning.training.run.wandb_files import STEP, logged_values, run_files

_RUN_ID_FILE = "wandb_run_id.txt"
_ROWS_ON_THEIR_WAY = 1000  # more than W&B keeps in memory before it writes


class _Row(NamedTuple):
    step: int | None
    metrics: Mapping[str, Any]
    pictures: Mapping[str, str]  # PNG files


class WandbRun(WandbLogger):
    """Keeps the run's id in the run's folder, and logs nothing twice.

    A process that is killed has logged more than its last checkpoint knows of. The process that resumes from there comes
    by the same steps again; what the run's own files already hold of them is left out, what they lack is logged.

    Args:
        project: of W&B.
        save_dir: the run's folder; None is ``trainer.default_root_dir`` on the command line, elsewhere the current one.
        offline: no network; ``wandb sync`` carries the run up later.
        resume: go on with the id that is kept in ``save_dir``, if there is one; set by the command line.
        name: shown for the run; None lets W&B make one up.
        entity: team of W&B; None is the user's own.
        tags: to find the run by.
    """

    def __init__(
        self,
        project: str = "sslam",
        save_dir: str | None = None,
        offline: bool = False,
        resume: bool = False,
        name: str | None = None,
        entity: str | None = None,
        tags: list[str] | None = None,
    ) -> None:
        self.folder = Path(save_dir or ".")
        kept = self.folder / _RUN_ID_FILE
        self.run_id = kept.read_text().strip() if resume and kept.is_file() else secrets.token_hex(4)
        self._resumes, self._known = resume, set[tuple[int, str]]()
        self._settings: dict[str, Any] = {}
        self._recent: deque[_Row] = deque(maxlen=_ROWS_ON_THEIR_WAY)
        settings: dict[str, Any] = {"resume": "allow", "entity": entity, "tags": tags}
        folder = str(self.folder)
        super().__init__(name=name, save_dir=folder, offline=offline, id=self.run_id, project=project, **settings)

    @property
    @rank_zero_only
    def experiment(self) -> Any:
        """The W&B run; the first use starts it."""
        if self._experiment is None and self._resumes:
            self._known = logged_values(self.folder, self.run_id)
        with kept_from_children(signal.SIGUSR1):
            return super().experiment

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log what is not known of this step yet, all of it in one row."""
        self._log(_Row(step, metrics, {}))

    @rank_zero_only
    def log_pictures(self, pictures: Mapping[str, str], step: int) -> None:
        self._log(_Row(step, {}, pictures))

    @rank_zero_only
    def log_settings(self, settings: Mapping[str, Any]) -> None:
        """Keep the run's id, the configuration, and the commit that it is run with."""
        (self.folder / _RUN_ID_FILE).write_text(self.run_id + "\n")
        self._settings = {**settings, "git_commit": git_commit()}
        self._send_settings()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write everything to the disk, whatever ended the run; who logs again goes on with the same run."""

        super().finalize(status)
        if self._experiment is None:
            return
        code = 0 if status == "success" else 1
        self._finish(code)
        if self._lacks_rows():
            self._start_anew()
            self._finish(code)
        self._recent.clear()

    def _finish(self, exit_code: int) -> None:
        with suppress(*_lost()):
            self.experiment.finish(exit_code=exit_code)  # type: ignore[union-attr]
        self._end_process(exit_code)

    def _lacks_rows(self) -> bool:
        """Whether W&B's process ended, without a word, before it had written what it was given."""
        if not self._offline and not run_files(self.folder, self.run_id):
            return False  # W&B is switched off by its own settings
        kept = logged_values(self.folder, self.run_id)
        rows = (row for row in self._recent if row.step is not None)
        return any((row.step, name) not in kept for row in rows for name in (*row.metrics, *row.pictures))

    def _end_process(self, exit_code: int) -> None:
        """W&B's own writes on for a moment behind `finish`; when it has ended all is on the disk."""
        import wandb

        with suppress(*_lost()):
            wandb.teardown(exit_code=exit_code)
        wandb.run = None
        self._experiment, self._resumes = None, True

    def _log(self, row: _Row) -> None:
        self._recent.append(row)
        try:
            self._send(row)
        except _lost():
            self._start_anew()

    def _send_settings(self) -> None:
        experiment: Any = self.experiment
        experiment.config.update(self._settings, allow_val_change=True)

    def _send(self, row: _Row) -> None:
        import wandb

        experiment: Any = self.experiment  # starts the run, and so knows what it holds
        pictures = {name: path for name, path in row.pictures.items() if (row.step, name) not in self._known}
        new = {name: value for name, value in row.metrics.items() if (row.step, name) not in self._known}
        new |= {name: wandb.Image(path) for name, path in pictures.items()}
        if new:
            experiment.log({**new, **({} if row.step is None else {STEP: row.step})})

    def _start_anew(self) -> None:
        """Another process of W&B's, for one that has ended and took with it what it had not written yet.

        It ends by any SIGTERM, and a scheduler that preempts a job sends one to every process in it.
        """
        self._end_process(1)
        self._send_settings()
        for row in self._recent:
            self._send(row)


def _lost() -> tuple[type[Exception], ...]:
    """What W&B raises when its own process is gone."""
    from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError

    return ConnectionError, MailboxClosedError, HandleAbandonedError


def git_commit() -> str | None:
    """The commit of this package's checkout, with a plus where files differ from it; None if it is no checkout."""
    here = Path(__file__).parent
    try:
        _git(here, "ls-files", "--error-unmatch", Path(__file__).name)  # fails where another checkout lies around it
        commit = _git(here, "rev-parse", "HEAD")
        changed = _git(here, "status", "--porcelain", "--untracked-files=no", ".")
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{commit}+" if changed else commit


def _git(folder: Path, *arguments: str) -> str:
    found = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    return found.stdout.strip()
