"""What a run keeps of itself: read back from W&B's own files, from TensorBoard's, and from the run's folder."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from sslam_lightning.__main__ import main
from sslam_lightning.runtime.configs import config_folder
from sslam_lightning.training.run.loggers import git_commit
from sslam_lightning.training.run.wandb_files import STEP, read_history, read_records, run_files

RECIPE = """
trainer:
  accelerator: cpu
  devices: 1
  max_epochs: 3
  limit_val_batches: 0
  log_every_n_steps: 1
  enable_progress_bar: false
  enable_model_summary: false
  callbacks:
    - class_path: sslam_lightning.training.callbacks.Pictures
      init_args: {every_n_steps: 4}
    - class_path: sslam_lightning.training.callbacks.OnlineKNN
      init_args:
        every_n_steps: 4
        k: 3
        data:
          class_path: sslam_lightning.data.SyntheticDataModule
          init_args: {num_train: 8, num_val: 4, max_sources: 1, num_classes: 2, clip_seconds: 0.66, num_workers: 0}
data:
  class_path: sslam_lightning.data.SyntheticDataModule
  init_args: {num_train: 6, num_val: 2, clip_seconds: 0.66, batch_size: 2, num_workers: 0}
model:
  class_path: sslam_lightning.PretrainModule
  init_args:
    encoder: {dim: 16, depth: 2, num_heads: 2}
    decoder: {dim: 16, depth: 1, groups: 4}
    features: {num_frames: 64}
    targets: {top_k_layers: 2}
    masks_per_clip: 2
    mixing: {class_path: sslam_lightning.mixing.PartialMixing}
"""
UPDATES, PICTURES = 9, (3, 7)  # three updates an epoch; rows of pictures, counted from 0


class Killed(BaseException):
    """What happens to the machine, not to the code."""


class Kill(Callback):
    """In the last batch of the last epoch: two updates behind the last checkpoint."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == UPDATES - 1:
            raise Killed


def _fit(folder: Path, *options: Any, logger: str = "wandb") -> None:
    (folder / "recipe.yaml").write_text(RECIPE)
    configs = ["--config", folder / "recipe.yaml", "--config", config_folder() / f"overlays/trainer/{logger}.yaml"]
    main(["fit", *map(str, configs), f"--trainer.default_root_dir={folder}/run", *map(str, options)])


def _break_off_behind(path: Path, step: int) -> None:
    """As a killed process leaves its log: the rows behind a step are lost, the first of them in the middle."""
    content = path.read_bytes()
    while any(row.get(STEP, 0) > step for row in read_history(path)):
        content = content[:-50]
        path.write_bytes(content)


@pytest.fixture(scope="module")
def resumed(tmp_path_factory) -> Path:
    """The folder of an offline W&B run that was killed in its ninth update and resumed from its sixth."""
    folder = tmp_path_factory.mktemp("logs")
    offline = ["--trainer.logger.offline=true"]
    with pytest.raises(Killed):
        _fit(folder, *offline, f"--trainer.callbacks+={__name__}.Kill")
    run_id = (folder / "run" / "wandb_run_id.txt").read_text().strip()
    (log,) = run_files(folder / "run", run_id)
    assert {row[STEP] for row in read_history(log)} == set(range(UPDATES - 1))
    _break_off_behind(log, 6)
    _fit(folder, *offline, f"--ckpt_path={folder}/run/checkpoints/last.ckpt")
    return folder / "run"


def _logs(run: Path) -> list[Path]:
    return run_files(run, (run / "wandb_run_id.txt").read_text().strip())


def test_one_run_of_two_processes_without_repeated_or_missing_steps(resumed):
    logs = _logs(resumed)
    assert len(logs) == len(list(resumed.glob("wandb/*run-*"))) == 2  # both under the id that the folder keeps
    rows = [row for log in logs for row in read_history(log)]
    for name in ("train/loss", "train/grad_norm", "train/pred_std", "train/lr"):
        assert [row[STEP] for row in rows if name in row] == list(range(UPDATES)), name
    seen = Counter(
        (row[STEP], name) for row in rows for name in row if not name.startswith("_") and name not in (STEP, "epoch")
    )
    assert set(seen.values()) == {1}, [what for what, times in seen.items() if times > 1]
    assert [row[STEP] for row in rows if "val/knn_accuracy" in row] == list(PICTURES)
    assert all(0 <= row["val/knn_accuracy"] <= 1 for row in rows if "val/knn_accuracy" in row)


def test_pictures_are_in_the_run_and_in_its_folder(resumed):
    found = [(log, row) for log in _logs(resumed) for row in read_history(log) if "pictures/predictions" in row]
    assert [row[STEP] for _, row in found] == list(PICTURES)
    for log, row in found:
        picture = row["pictures/predictions"]
        assert picture["_type"] == "image-file"
        kept = log.parent / "files" / picture["path"]
        assert kept.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert [path.name for path in sorted(resumed.glob("pictures/*.png"))] == [f"update_{n + 1:08d}.png" for n in PICTURES]


def test_configuration_and_commit_are_in_the_run(resumed):
    for log in _logs(resumed):
        settings = {}
        for record in read_records(log):
            if record.HasField("config"):
                settings |= {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.config.update}
        assert settings["git_commit"] == git_commit()
        assert settings["model"]["init_args"]["encoder"]["dim"] == 16
        assert settings["data"]["init_args"]["num_train"] == 6
        assert settings["trainer"]["max_epochs"] == 3


def test_pictures_and_neighbors_change_nothing_in_a_run(resumed, tmp_path):
    _fit(tmp_path, "--trainer.callbacks=null", "--trainer.logger=null")
    own, other = (torch.load(run / "checkpoints/last.ckpt", weights_only=True) for run in (tmp_path / "run", resumed))
    assert own["global_step"] == other["global_step"] == UPDATES
    assert all(torch.equal(other["state_dict"][name], value) for name, value in own["state_dict"].items())


def test_the_table_goes_on_without_repeated_or_missing_steps(tmp_path):
    csv_log = ("--trainer.logger=null", "--trainer.callbacks=null")
    with pytest.raises(Killed):
        _fit(tmp_path, *csv_log, f"--trainer.callbacks+={__name__}.Kill")
    (table,) = (tmp_path / "run" / "logs").glob("*/metrics.csv")
    kept = table.read_bytes()
    table.write_bytes(kept[:-20])  # the last row is broken off, as a kill may leave it
    _fit(tmp_path, *csv_log, "--ckpt_path=last")
    assert list((tmp_path / "run" / "logs").glob("*/metrics.csv")) == [table]
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for name in ("train/loss", "train/grad_norm", "train/lr", "train/pred_std"):
        assert [int(row["step"]) for row in rows if row[name]] == list(range(UPDATES)), name
    before = list(csv.DictReader(kept.decode().splitlines()))[:-1]
    assert [row["train/loss"] for row in rows[: len(before)]] == [row["train/loss"] for row in before]


def test_a_run_that_was_validated_goes_on_with_its_own_table(tmp_path):
    csv_log = ("--trainer.logger=null", "--trainer.callbacks=null")
    _fit(tmp_path, *csv_log, "--trainer.max_steps=2")
    run = tmp_path / "run"
    main(["validate", "--config", f"{run}/config.yaml", "--ckpt_path=last", "--trainer.limit_val_batches=1"])
    _fit(tmp_path, *csv_log, "--trainer.max_steps=4", "--ckpt_path=last")
    (table,) = (run / "logs").glob("version_*/metrics.csv")
    with table.open(newline="") as file:
        assert [row["step"] for row in csv.DictReader(file) if row["train/loss"]] == ["0", "1", "2", "3"]
    (validated,) = (run / "logs/validate").glob("version_*/metrics.csv")
    assert "val/loss" in validated.read_text()


def test_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _fit(tmp_path, "--trainer.max_epochs=2", logger="tensorboard")
    (folder,) = (tmp_path / "run" / "logs").iterdir()
    events = EventAccumulator(str(folder)).Reload()
    assert [event.step for event in events.Scalars("train/loss")] == list(range(6))
    assert [event.step for event in events.Scalars("val/knn_accuracy")] == [3]
    (image,) = events.Images("pictures/predictions")
    assert image.step == 3
    assert image.encoded_image_string[:4] == b"\x89PNG"


def test_tensorboard_that_is_not_installed_is_said_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sslam_lightning.cli.fit.trainer.find_spec", lambda name: None)
    with pytest.raises(SystemExit) as left:
        _fit(tmp_path, logger="tensorboard")
    assert left.value.code == 2
    told = "sslam: error: TensorBoard is not installed: pip install 'sslam-lightning[tensorboard]', or log to CSV"
    assert capsys.readouterr().err.splitlines()[-1] == told


def test_every_process_of_a_run_is_found_the_second_of_one_second_too(tmp_path):
    first = "offline-run-20261121_151404-e850da72"
    names = (first, f"{first}-1", "run-20261121_151500-e850da72")
    for name in names:
        (tmp_path / "wandb" / name).mkdir(parents=True)
        (tmp_path / "wandb" / name / "run-e850da72.wandb").touch()
    (tmp_path / "wandb" / "run-20261121_151404-ffffffff").mkdir()
    (tmp_path / "wandb" / "run-20261121_151404-ffffffff" / "run-ffffffff.wandb").touch()
    assert [path.parent.name for path in run_files(tmp_path, "e850da72")] == list(names)


def test_a_w_and_b_process_that_a_signal_ends_takes_no_step_with_it(tmp_path):
    """Slurm preempts a job by a SIGTERM to every process in it, of which W&B's own is one."""
    job = Path(__file__).with_name("wandb_loss_job.py")
    subprocess.run([sys.executable, job, tmp_path], check=True)
    files = _logs(tmp_path)
    rows = [row for file in files for row in read_history(file)]
    assert [(row[STEP], row["loss"]) for row in rows] == [(step, float(step)) for step in range(24)]
    configs = [record.run.config for record in read_records(files[-1]) if record.HasField("run")]
    configs += [record.config for record in read_records(files[-1]) if record.HasField("config")]
    assert any(item.key == "lr" and item.value_json == "0.5" for config in configs for item in config.update)


def test_a_run_shorter_than_the_logging_interval_logs_its_last_update(tmp_path):
    (tmp_path / "recipe.yaml").write_text(RECIPE.split("  callbacks:")[0] + "data:" + RECIPE.split("\ndata:")[1])
    folder = tmp_path / "run"
    options = ["--trainer.max_steps=2", "--trainer.log_every_n_steps=50", f"--trainer.default_root_dir={folder}"]
    main(["fit", "--config", str(tmp_path / "recipe.yaml"), *options])
    with (folder / "logs/version_0/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows if row["train/loss"]] == ["1"]
