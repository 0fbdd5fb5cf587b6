"""Saves when a signal asks for it, and leaves so that the run goes on where it stood: by Slurm, or by its user."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Set
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn

from sslam_lightning.checkpoints import LAST
from sslam_lightning.runtime.signals import clear, install, received
from sslam_lightning.training.callbacks.non_finite_guard import LostWeights
from sslam_lightning.training.run.progress import ends_step

SIGNALS = (signal.SIGUSR1, signal.SIGINT, signal.SIGTERM)
_SCONTROL_SECONDS = 60.0


class Interrupted(SystemExit):
    """A run has saved and ends as it was asked to: 128 + the signal's number, as shells have it, or 0 if Slurm goes on."""


class SaveOnSignal(pl.Callback):
    """Saves ``checkpoints/last.ckpt`` at the end of the update in which a signal comes to any rank, on all at once.

    ========  ============================================  ======================================================
    signal    in a job of Slurm                             elsewhere
    ========  ============================================  ======================================================
    SIGUSR1   the time limit is near: saves, puts the job   saves and goes on
              back into the queue, ends
    SIGTERM   preempted: saves and waits to be killed       saves and ends with code 143
    SIGINT    saves and ends with code 130                  the same; a second one ends at once
    ========  ============================================  ======================================================

    A preempted job waits because Slurm puts only those back into the queue that it had to end itself: one that exits within
    its grace period counts as completed. Cancelled jobs are killed there and stay ended. Lightning's own requeueing is
    switched off: it saves inside the signal handler, in the middle of a batch, which is lost on resuming.

    Several ranks ask each other once an update, by one message of three numbers.

    Args:
        wait_seconds: for Slurm to end a preempted job; where it does not, the job is put back into the queue from here.
    """

    def __init__(self, wait_seconds: float = 300.0) -> None:
        if not wait_seconds >= 0:
            raise ValueError(f"wait_seconds must not be negative, got {wait_seconds:g}")
        self.wait_seconds = wait_seconds
        self._in_slurm = False
        self._common_batches = 0  # of a validation, that every rank has
        self._saved: Path | None = None  # and the run is to be left
        self._asked: Set[signal.Signals] = frozenset()

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        environment = trainer._accelerator_connector.cluster_environment
        self._in_slurm = isinstance(environment, SLURMEnvironment)
        if isinstance(environment, SLURMEnvironment):
            environment.auto_requeue = False

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Come last, behind those that change what is saved."""
        trainer.callbacks = [*(c for c in trainer.callbacks if c is not self), self]  # type: ignore[attr-defined]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the place of Lightning's handlers, which start a broadcast wherever a rank happens to be."""
        install(*SIGNALS)

    on_sanity_check_start = on_train_start

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if ends_step(trainer):
            self._look(trainer)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """A validation may take longer than there is time; it will be made anew."""
        if batch_idx < self._common_batches:
            self._look(trainer)
            self._leave_if_asked(trainer)

    # The metrics of the last update are logged behind `on_train_batch_end`; so the run is left at what comes next.
    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        self._leave_if_asked(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Or a validation, of which ranks may have different numbers of batches."""
        self._leave_if_asked(trainer)
        self._common_batches = 0
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            own = torch.tensor(float(trainer.num_val_batches[0]), device=trainer.strategy.root_device)
            self._common_batches = int(trainer.strategy.reduce(own, reduce_op="min"))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._leave_if_asked(trainer)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        clear()

    def _look(self, trainer: pl.Trainer) -> None:
        asked = _noted_by_any_rank(trainer)
        if not asked:
            return
        path = _folder(trainer) / LAST
        try:
            trainer.save_checkpoint(path, weights_only=False)  # waits for all ranks
        except LostWeights:
            return  # such weights are not kept: at the next update, or the guard ends the run
        clear(asked)
        if asked == {signal.SIGUSR1} and not self._in_slurm:
            _tell(trainer, f"SIGUSR1: saved {path} after update {trainer.global_step}")
        else:
            self._asked, self._saved = asked, path

    def _leave_if_asked(self, trainer: pl.Trainer) -> None:
        if self._saved is None:
            return
        saved, self._saved = self._saved, None
        came = max(self._asked)  # INT < USR1 < TERM
        told = f"{came.name}: saved {saved} after update {trainer.global_step}"
        ends_here = not self._in_slurm or signal.SIGINT in self._asked
        waits = not ends_here and signal.SIGUSR1 not in self._asked
        if ends_here:
            _tell(trainer, f"{told}; to go on, give the same command with --ckpt_path=last")
        elif waits:
            _tell(trainer, f"{told}; waiting for Slurm to end the job and put it back into the queue")
        for logger in trainer.loggers:
            logger.finalize("success")  # to the disk, before anything is killed
        trainer.strategy.barrier()  # the first rank writes the logs; who left before would have it killed
        if ends_here:
            raise Interrupted(128 + came)
        if waits:
            end = time.monotonic() + self.wait_seconds
            while time.monotonic() < end and signal.SIGUSR1 not in received():
                time.sleep(1)
        raise Interrupted(_requeue(told) if trainer.is_global_zero else 0)


def _noted_by_any_rank(trainer: pl.Trainer) -> Set[signal.Signals]:
    own = received()
    if trainer.world_size == 1:
        return own
    flags = torch.tensor([float(wanted in own) for wanted in SIGNALS], device=trainer.strategy.root_device)
    anywhere = trainer.strategy.reduce(flags, reduce_op="max").tolist()
    return {wanted for wanted, flag in zip(SIGNALS, anywhere, strict=True) if flag}


def _folder(trainer: pl.Trainer) -> Path:
    folders = (callback.dirpath for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint))
    return Path(next((folder for folder in folders if folder), Path(trainer.default_root_dir) / "checkpoints"))


def _requeue(told: str) -> int:
    """Put this job back into Slurm's queue; the exit code."""
    job = os.environ["SLURM_JOB_ID"]
    try:
        command = ["scontrol", "requeue", job]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SCONTROL_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        reason = " ".join((getattr(error, "stderr", None) or str(error)).split())
        _say(
            f"error: {told}; Slurm does not put job {job} back into the queue ({reason}): submit its script again to go on"
        )
        return 1
    _say(f"{told}; job {job} is back in Slurm's queue and goes on from there {done.stdout.strip()}".rstrip())
    return 0


def _tell(trainer: pl.Trainer, line: str) -> None:
    if trainer.is_global_zero:
        _say(line)


def _say(line: str) -> None:
    print(f"\nsslam: {line}", file=sys.stderr, flush=True)
