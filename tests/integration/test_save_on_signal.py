"""Signals in the middle of a run: what is saved, how it ends, and that it goes on as if nothing had been."""

from __future__ import annotations

import os
import signal
import types
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from tiny import Diary, pretrain, soundscapes, trainer

from sslam_lightning.runtime.signals import clear, received
from sslam_lightning.training.callbacks import RunCheckpoint, SaveOnSignal
from sslam_lightning.training.callbacks.save_on_signal import SIGNALS, Interrupted, _noted_by_any_rank

BATCHES = 6  # an epoch: its five are filled up to three updates of two


class Send(pl.Callback):
    """Signals this process in the middle of a batch."""

    def __init__(self, *signals: signal.Signals, batch: int = 2, validating: bool = False) -> None:
        self.signals, self.batch, self.validating = signals, batch, validating
        self.validations = 0

    def _send(self, batch: int) -> None:
        if batch == self.batch:
            for wanted in self.signals:
                os.kill(os.getpid(), wanted)

    def on_before_backward(self, trainer, pl_module, loss) -> None:
        if not self.validating and trainer.current_epoch == 0:
            self._send(trainer.fit_loop.batch_idx)

    def on_validation_start(self, trainer, pl_module) -> None:
        self.validations += 1

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, *_) -> None:
        if self.validating and self.validations == 1:
            self._send(batch_idx)


@pytest.fixture(autouse=True)
def _as_before():
    handlers = {wanted: signal.getsignal(wanted) for wanted in SIGNALS}
    yield
    clear()
    assert {wanted: signal.getsignal(wanted) for wanted in SIGNALS} == handlers, "a run leaves handlers behind"


def run(folder: Path, *callbacks: pl.Callback, resume: bool = False, num_val: int = 0, **settings) -> Diary:
    pl.seed_everything(11, verbose=False)  # the same initial weights
    diary = Diary()
    settings = {"max_epochs": 2, "accumulate_grad_batches": 2, **settings}
    runner = trainer(folder, SaveOnSignal(0.0), diary, *callbacks, **settings)
    path = folder / "checkpoints" / "last.ckpt" if resume else None
    runner.fit(pretrain(), soundscapes(20, num_val, batch_size=4), ckpt_path=path, weights_only=True)
    return diary


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Diary:
    """The run that was left alone."""
    return run(tmp_path_factory.mktemp("whole"), num_val=12)


def assert_goes_on(first: Diary, second: Diary, whole: Diary) -> None:
    assert not first.losses.keys() & second.losses.keys(), "a batch came twice"
    assert first.losses | second.losses == whole.losses
    assert all(torch.equal(second.students[-1][name], value) for name, value in whole.students[-1].items())


@pytest.mark.parametrize(("wanted", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_it_ends_behind_the_update_and_goes_on_from_there(wanted, code, tmp_path, whole, capfd):
    first = Diary()
    with pytest.raises(Interrupted) as end:
        run(tmp_path, Send(wanted, batch=2), first, num_val=12)
    assert end.value.code == code
    assert list(first.losses) == [(0, 0), (0, 1), (0, 2), (0, 3)]  # batches 2 and 3 make the update
    told = f"{wanted.name}: saved {tmp_path}/checkpoints/last.ckpt after update 2; to go on, give the same command"
    assert told in capfd.readouterr().err
    assert_goes_on(first, run(tmp_path, num_val=12, resume=True), whole)


def test_metrics_of_the_last_update_are_logged(tmp_path):
    logger = pl.loggers.CSVLogger(tmp_path, "logs")
    with pytest.raises(Interrupted):
        run(tmp_path, Send(signal.SIGTERM), logger=logger)
    rows = (tmp_path / "logs" / "version_0" / "metrics.csv").read_text().splitlines()
    assert len(rows) == 1 + 2


def test_in_a_validation_which_is_made_anew(tmp_path, whole):
    first, sending, again = Diary(), Send(signal.SIGTERM, batch=1, validating=True), Send()
    with pytest.raises(Interrupted):
        run(tmp_path, sending, first, num_val=12)
    assert list(first.losses) == [(0, batch) for batch in range(BATCHES)]
    second = run(tmp_path, again, num_val=12, resume=True)
    assert again.validations == 2  # of the first epoch, from its beginning, and of the second
    assert_goes_on(first, second, whole)
    assert "val/loss" in second.logged[-1]


def test_usr1_saves_and_goes_on(tmp_path, whole, capfd):
    diary = run(tmp_path, Send(signal.SIGUSR1), num_val=12)
    assert diary.losses == whole.losses
    assert "SIGUSR1: saved" in capfd.readouterr().err
    saved = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 2


def test_what_comes_while_it_saves_is_not_lost(tmp_path, capfd):
    class SendAgain(pl.Callback):
        def on_save_checkpoint(self, trainer, pl_module, checkpoint) -> None:
            if trainer.global_step == 2:
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted) as end:
        run(tmp_path, Send(signal.SIGUSR1), SendAgain())
    assert end.value.code == 143
    told = capfd.readouterr().err
    assert "SIGUSR1: saved" in told
    assert "SIGTERM: saved" in told


def test_it_saves_where_the_checkpoints_are(tmp_path):
    """U1: last.ckpt is rewritten, whatever is monitored and whenever the next save is due."""
    keep = RunCheckpoint(tmp_path / "elsewhere", monitor="train/loss", every_n_train_steps=2)
    with pytest.raises(Interrupted):
        run(tmp_path, Send(signal.SIGTERM, batch=4), keep)
    kept = {path.name: torch.load(path, weights_only=True)["global_step"] for path in (tmp_path / "elsewhere").iterdir()}
    assert kept == {"best.ckpt": 2, "last.ckpt": 3}


def test_a_second_ctrl_c_ends_at_once(tmp_path, capfd):
    with pytest.raises(SystemExit) as end:  # Lightning's own, behind a KeyboardInterrupt
        run(tmp_path, Send(signal.SIGINT, signal.SIGINT))
    assert not isinstance(end.value, Interrupted)
    assert not (tmp_path / "checkpoints").exists()
    assert "Ctrl-C again ends at once" in capfd.readouterr().err


# Slurm, of which test_slurm.py has a real one -------------------------------------------------------------------------


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """The environment of a job with one process, and a scontrol that notes what it is told or fails."""

    def job(fails: bool = False) -> Path:
        variables = {"JOB_ID": "17", "NTASKS": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0", "JOB_NAME": "run"}
        for name, value in variables.items():
            monkeypatch.setenv(f"SLURM_{name}", value)
        scontrol = tmp_path / "bin" / "scontrol"
        scontrol.parent.mkdir()
        scontrol.write_text(
            "#!/bin/sh\necho 'Access denied' >&2\nexit 1\n" if fails else f'#!/bin/sh\necho "$@" > {tmp_path}/told\n'
        )
        scontrol.chmod(0o755)
        monkeypatch.setenv("PATH", f"{scontrol.parent}:{os.environ['PATH']}")
        return tmp_path / "told"

    return job


def test_before_the_time_limit_the_job_goes_back_into_the_queue(slurm, tmp_path, whole, capfd):
    told, first = slurm(), Diary()
    with pytest.raises(Interrupted) as end:
        run(tmp_path, Send(signal.SIGUSR1), first, num_val=12)
    assert (end.value.code, told.read_text()) == (0, "requeue 17\n")
    assert "after update 2; job 17 is back in Slurm's queue" in capfd.readouterr().err
    assert_goes_on(first, run(tmp_path, num_val=12, resume=True), whole)


def test_a_preempted_job_that_is_not_killed_requeues_itself(slurm, tmp_path, capfd):
    told = slurm()
    with pytest.raises(Interrupted) as end:
        run(tmp_path, Send(signal.SIGTERM))
    assert (end.value.code, told.read_text()) == (0, "requeue 17\n")
    assert "waiting for Slurm to end the job" in capfd.readouterr().err


def test_a_requeue_that_fails_is_said(slurm, tmp_path, capfd):
    slurm(fails=True)
    with pytest.raises(Interrupted) as end:
        run(tmp_path, Send(signal.SIGUSR1))
    assert end.value.code == 1
    assert (
        "Slurm does not put job 17 back into the queue (Access denied): submit its script again" in capfd.readouterr().err
    )
    assert (tmp_path / "checkpoints" / "last.ckpt").is_file()


def test_lightning_does_not_requeue(slurm, tmp_path):
    slurm()
    seen = []

    class Look(pl.Callback):
        def on_train_start(self, trainer, pl_module):
            seen.append(trainer._accelerator_connector.cluster_environment.auto_requeue)

    run(tmp_path, Look(), max_epochs=1)
    assert seen == [False]


def test_ranks_ask_each_other():
    class Strategy:
        root_device = torch.device("cpu")

        def reduce(self, flags, reduce_op):
            assert reduce_op == "max"
            return torch.maximum(flags, torch.tensor([0.0, 0.0, 1.0]))  # the other rank was told to end

    asked = _noted_by_any_rank(types.SimpleNamespace(world_size=2, strategy=Strategy()))
    assert not received()
    assert asked == {signal.SIGTERM}


def test_a_negative_wait_is_refused():
    with pytest.raises(ValueError, match="wait_seconds must not be negative, got -1"):
        SaveOnSignal(-1)
