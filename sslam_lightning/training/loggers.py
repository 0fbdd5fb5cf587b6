"""Weights & Biases as one run from the first process to the last, however often it is resumed."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from sslam_lightning.training.wandb_files import STEP, logged_values

_RUN_ID_FILE = "wandb_run_id.txt"


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
        settings: dict[str, Any] = {"resume": "allow", "entity": entity, "tags": tags}
        folder = str(self.folder)
        super().__init__(name=name, save_dir=folder, offline=offline, id=self.run_id, project=project, **settings)

    @property
    @rank_zero_only
    def experiment(self) -> Any:
        """The W&B run; the first use starts it."""
        if self._experiment is None and self._resumes:
            self._known = logged_values(self.folder, self.run_id)
        return super().experiment

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log what is not known of this step yet, all of it in one row."""
        experiment: Any = self.experiment  # starts the run, and so knows what it holds
        new = {name: value for name, value in metrics.items() if (step, name) not in self._known}
        if new:
            experiment.log({**new, **({} if step is None else {STEP: step})})

    def log_pictures(self, pictures: Mapping[str, str], step: int) -> None:
        """PNG files by name, as one row."""
        import wandb

        self.log_metrics({name: wandb.Image(path) for name, path in pictures.items()}, step)

    @rank_zero_only
    def log_settings(self, settings: Mapping[str, Any]) -> None:
        """Keep the run's id, the configuration, and the commit that it is run with."""
        (self.folder / _RUN_ID_FILE).write_text(self.run_id + "\n")
        experiment: Any = self.experiment
        experiment.config.update({**settings, "git_commit": git_commit()}, allow_val_change=True)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write everything to the disk, whatever ended the run; who logs again goes on with the same run."""
        import wandb

        super().finalize(status)
        if self._experiment is not None:
            code = 0 if status == "success" else 1
            self._experiment.finish(exit_code=code)
            wandb.teardown(exit_code=code)  # W&B's own process writes the file, and may not be done when finish returns
            self._experiment, self._resumes = None, True


def git_commit() -> str | None:
    """The commit of this package's checkout, with a plus where files differ from it; None if it is no checkout."""
    here = Path(__file__).parent
    try:
        commit = _git(here, "rev-parse", "HEAD")
        changed = _git(here, "status", "--porcelain", "--untracked-files=no", ".")
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{commit}+" if changed else commit


def _git(folder: Path, *arguments: str) -> str:
    found = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    return found.stdout.strip()
