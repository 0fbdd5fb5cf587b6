"""A process that dies under torchrun: its agent starts all of them again, and the run ends as if nothing had happened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from prefork import interpreter
from processes import start, wait_for

import sslam_lightning

RECIPE = """
trainer:
  accelerator: cpu
  devices: 2
  strategy: ddp
  max_steps: 8
  log_every_n_steps: 1
  enable_progress_bar: false
  enable_model_summary: false
  callbacks:
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args: {every_n_train_steps: 2, save_last: true}
data:
  class_path: sslam_lightning.data.SyntheticDataModule
  init_args: {num_train: 18, num_val: 0, clip_seconds: 0.66, batch_size: 2, num_workers: 0}
model:
  class_path: sslam_lightning.PretrainModule
  init_args:
    encoder: {dim: 16, depth: 2, num_heads: 2, dropout: 0.1}
    decoder: {dim: 16, depth: 1, groups: 4}
    features: {num_frames: 64}
    targets: {top_k_layers: 2}
    masks_per_clip: 2
    mixing: {class_path: sslam_lightning.mixing.PartialMixing}
"""
KILLED_AFTER = 5  # updates: one behind the newest checkpoint, in the middle of the second update of the second epoch


class KillOnce(Callback):
    """Rank 1 dies in its first life; the agent then ends rank 0."""

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Any) -> None:
        first_life = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
        if first_life and trainer.global_rank == 1 and trainer.global_step == KILLED_AFTER:
            os.kill(os.getpid(), signal.SIGKILL)


def _fit(folder: Path) -> list[str]:
    """The arguments of a run in a folder of its own."""
    (folder / "recipe.yaml").write_text(RECIPE)
    options = ["--config", f"{folder}/recipe.yaml", "--trainer.default_root_dir", f"{folder}/run", "--ckpt_path=last"]
    return ["-m", "sslam_lightning", "fit", *options]


def _undisturbed(folder: Path) -> str:
    """What two processes print that nobody watches."""
    meet = "from processes import meet; meet(); from sslam_lightning.__main__ import main; import sys; main(sys.argv[3:])"
    jobs = start("-c", meet, *_fit(folder))
    outputs = wait_for(jobs)
    assert [job.returncode for job in jobs] == [0, 0], outputs
    return "".join(outputs)


def _torchrun(folder: Path, *options: str) -> str:
    """What ``torchrun -m sslam_lightning fit`` prints."""
    agent = ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1", "--no-python"]
    places = (Path(sslam_lightning.__file__).parents[1], *Path(__file__).parents[:2], os.environ.get("PYTHONPATH", ""))
    done = subprocess.run(
        [sys.executable, "-m", *agent, *interpreter(), *_fit(folder), *options],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, places)),
            "OMP_NUM_THREADS": "1",
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",  # as README has it
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Any]:
    folders = {name: tmp_path_factory.mktemp(name) for name in ("whole", "killed")}
    said = {
        "whole": _undisturbed(folders["whole"]),
        "killed": _torchrun(folders["killed"], f"--trainer.callbacks+={__name__}.KillOnce"),
    }
    return {name: (folders[name] / "run", said[name]) for name in folders}


def test_the_first_start_says_that_it_begins_and_the_second_where_it_goes_on(runs):
    for folder, said in runs.values():
        assert said.count(f"sslam: no checkpoint in {folder}/checkpoints yet, starting from the beginning") == 1
    folder, said = runs["killed"]
    assert f"sslam: resuming from {folder}/checkpoints/last.ckpt" in said
    assert "resuming" not in runs["whole"][1]


def test_the_run_ends_with_the_same_bits(runs):
    own, other = (torch.load(folder / "checkpoints/last.ckpt", weights_only=True) for folder, _ in runs.values())
    assert own["global_step"] == other["global_step"] == 8
    assert own["state_dict"].keys() == other["state_dict"].keys()
    assert [name for name, weight in own["state_dict"].items() if not torch.equal(weight, other["state_dict"][name])] == []
    moments, others = (checkpoint["optimizer_states"][0]["state"] for checkpoint in (own, other))
    assert moments
    assert all(torch.equal(value, others[key][name]) for key, state in moments.items() for name, value in state.items())
