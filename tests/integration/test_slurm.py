"""`sslam slurm` on a real Slurm: a job that is preempted, then out of time, ends as if it had been left alone."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from slurm_cluster import Cluster, Unavailable, cluster, free_ports, wait_until

import sslam_lightning
from sslam_lightning.__main__ import main
from sslam_lightning.runtime.configs import config_folder
from sslam_lightning.training.run.wandb_files import STEP, read_history, run_files

_HERE = Path(__file__).parent
_PACKAGE = Path(sslam_lightning.__file__).parents[1]
RECIPES = (
    "pretrain/sslam_base",
    "overlays/sizes/tiny",
    "overlays/data/synthetic",
    "overlays/trainer/cpu",
)
UPDATES, PREEMPTED_IN, OUT_OF_TIME_IN = 12, 3, 7  # 5 updates an epoch
SIGNAL_SECONDS = 25
FAILED = ("FAILED", "CANCELLED", "TIMEOUT", "PREEMPTED", "NODE_FAIL", "BOOT_FAIL", "OUT_OF_MEMORY", "REQUEUE_HOLD")
pytestmark = pytest.mark.ci
PATIENCE_SECONDS = 300  # with what hangs; no measure of how fast it is


@pytest.fixture(scope="module")
def slurm() -> Iterator[Cluster]:
    try:
        with cluster(["n1", "n2", "n3", "n4"]) as found:
            yield found
    except Unavailable as reason:
        pytest.skip(str(reason))


@pytest.fixture
def submit(slurm, tmp_path, monkeypatch, capsys):
    """`sslam slurm --submit` of a two-node run in a folder, with further options; the job's number."""
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(_PACKAGE), str(_HERE), os.environ.get("PYTHONPATH", "")]))
    # Nodes of a cluster know each other by name; these are all this machine.
    for name, value in (("MASTER_ADDR", "127.0.0.1"), ("GLOO_SOCKET_IFNAME", "lo"), ("OMP_NUM_THREADS", "1")):
        monkeypatch.setenv(name, value)

    def run(folder: Path, *options: str, holds: tuple[int, ...] = ()) -> int:
        monkeypatch.setenv("MASTER_PORT", str(free_ports(1)[0]))
        overlay = tmp_path / f"{folder.name}.yaml"
        overlay.write_text(yaml.safe_dump(_overlay(folder, holds)))
        configs = [word for name in RECIPES for word in ("--config", str(config_folder() / f"{name}.yaml"))]
        main(["slurm", *configs, "--config", str(overlay), "--nodes=2", "--gpus-per-node=0", "--submit", *options])
        printed = capsys.readouterr().out
        assert "global batch: 8 clips = 1 device x 2 nodes x 4 clips" in printed
        return int(re.search(r"submitted job (\d+)", printed)[1])

    return run


def _overlay(folder: Path, holds: tuple[int, ...]) -> dict:
    checkpoints = {"every_n_train_steps": 4, "save_last": True}
    hold = {"updates": list(holds), "folder": str(folder.parent)}
    return {
        "trainer": {
            "default_root_dir": str(folder),
            "max_steps": UPDATES,
            "log_every_n_steps": 1,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "logger": {"class_path": "sslam_lightning.training.run.loggers.WandbRun", "init_args": {"offline": True}},
            "callbacks": [
                {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": checkpoints},
                {"class_path": "slurm_hold.Hold", "init_args": hold},
            ],
        },
        "model": {"init_args": {"init_from": None}},
        "data": {"init_args": {"num_train": 40, "num_val": 0, "batch_size": 4, "num_workers": 1}},
    }


@pytest.mark.slow
def test_a_preempted_job_and_one_out_of_time_end_like_an_undisturbed_one(slurm, submit, tmp_path):
    disturbed, left_alone = tmp_path / "disturbed run", tmp_path / "left_alone"
    job = submit(disturbed, "--time=10", f"--signal-seconds={SIGNAL_SECONDS}", holds=(PREEMPTED_IN, OUT_OF_TIME_IN))
    log = disturbed / f"slurm-{job}.log"

    def holds(start: int) -> bool:
        _state(slurm, job, log)
        return (tmp_path / f"holding_{start}").exists()

    def is_back_in_the_queue(times: int) -> bool:
        state = _state(slurm, job, log)
        return state["JobState"] == "PENDING" and state["Restarts"] == str(times)

    wait_until(lambda: holds(0), PATIENCE_SECONDS, "the first start")
    on_the_same_nodes = slurm.job(job)["NodeList"]
    slurm.run("sbatch", "--partition=urgent", f"--nodelist={on_the_same_nodes}", "--nodes=2", "--exclusive", "--wrap=true")
    reference = submit(left_alone, "--partition=urgent", "--time=10")
    wait_until(lambda: is_back_in_the_queue(1), PATIENCE_SECONDS, "the requeue after preemption")
    assert f"SIGTERM: saved {disturbed}/checkpoints/last.ckpt after update {PREEMPTED_IN + 1}; waiting" in log.read_text()

    _start_again(slurm, job)
    wait_until(lambda: holds(1), PATIENCE_SECONDS, "the second start")
    _let_time_run_out(slurm, job)
    wait_until(lambda: is_back_in_the_queue(2), PATIENCE_SECONDS, "the requeue at the time limit")
    told = re.findall(r"SIGUSR1: saved .* after update (\d+); job (\d+) is back in Slurm's queue", log.read_text())
    assert told == [(str(OUT_OF_TIME_IN + 1), str(job))]

    slurm.run("scontrol", "update", f"JobId={job}", "TimeLimit=10")
    _start_again(slurm, job)
    for number, its_log in ((reference, left_alone / f"slurm-{reference}.log"), (job, log)):

        def is_done(number: int = number, its_log: Path = its_log) -> bool:
            return _state(slurm, number, its_log)["JobState"] == "COMPLETED"

        wait_until(is_done, PATIENCE_SECONDS, f"job {number}'s end")
    assert log.read_text().count("sslam: resuming from") == 2
    _assert_equal(disturbed, left_alone)


def _state(slurm: Cluster, job: int, log: Path) -> dict[str, str]:
    """What the controller knows of a job that has not failed."""
    state = slurm.job(job)
    assert state["JobState"] not in FAILED, (state, log.read_text()[-3000:], slurm.told())
    return state


def _start_again(slurm: Cluster, job: int) -> None:
    """Now instead of two minutes later; not in the second of the last start's end: a node tells the two by their second."""
    time.sleep(2)
    slurm.run("scontrol", "update", f"JobId={job}", "StartTime=now")


def _let_time_run_out(slurm: Cluster, job: int) -> None:
    """So late that the signal comes before the end, so early that it comes soon: Slurm looks every half minute."""
    slurm.run("scontrol", "update", f"JobId={job}", f"EndTime=now+{SIGNAL_SECONDS + 25}")


def _assert_equal(disturbed: Path, left_alone: Path) -> None:
    """The same weights, optimizer and losses, bit for bit; one W&B run that holds every step once."""
    own, other = (torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (disturbed, left_alone))
    assert own["global_step"] == other["global_step"] == UPDATES
    assert own["state_dict"].keys() == other["state_dict"].keys()
    assert [name for name, value in own["state_dict"].items() if not torch.equal(value, other["state_dict"][name])] == []
    moments = [run["optimizer_states"][0]["state"] for run in (own, other)]
    assert all(torch.equal(moments[0][i]["exp_avg_sq"], moments[1][i]["exp_avg_sq"]) for i in moments[1])
    losses = []
    for run, processes in ((disturbed, 4), (left_alone, 1)):  # SIGTERM ended one of W&B's
        files = run_files(run, (run / "wandb_run_id.txt").read_text().strip())
        assert len(files) == processes == len(list(run.glob("wandb/*run-*-*"))), "all of one W&B run"
        rows = [row for file in files for row in read_history(file) if "train/loss" in row]
        losses.append([(row[STEP], row["train/loss"]) for row in rows])
    assert losses[0] == losses[1]
    assert [step for step, _ in losses[0]] == list(range(UPDATES))
