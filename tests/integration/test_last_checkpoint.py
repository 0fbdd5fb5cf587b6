"""``last.ckpt`` is the newest state of a run and ``best.ckpt`` that with the best score, whatever happens to the run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from scenes import make_scenes

from sslam_lightning import FinetuneModule
from sslam_lightning.__main__ import main
from sslam_lightning.runtime.configs import config_folder

PEAK = 4  # updates of the best score
RUN = {
    "trainer.max_steps": 9,
    "trainer.val_check_interval": 2,
    "trainer.check_val_every_n_epoch": "null",
    "trainer.num_sanity_val_steps": 0,
    "trainer.enable_progress_bar": "false",
    "trainer.enable_model_summary": "false",
    "model.init_from": "null",
    "model.encoder": '{"dim": 32, "depth": 1, "num_heads": 2}',
    "model.optimizer.warmup_steps": 1,
}
CLIPS = {"data": "SyntheticDataModule", "data.num_train": 8, "data.num_val": 2, "data.batch_size": 2, "data.num_workers": 0}
FINETUNING = {**CLIPS, "data.clip_seconds": 0.66, "model.features.num_frames": 64, "model.mixup": "null"}
DETECTION = {
    "data.clip_seconds": 2.56,
    "data.isolated_sounds": "false",
    "data.batch_size": 2,
    "data.num_workers": 0,
    "model.features.num_frames": 256,
}
TASKS = {
    "fine-tuning": ("audioset_20k", "val/mAP", FINETUNING),
    "detection": ("dcase2016_task2", "val/onset_F1", DETECTION),
}


def step_of(path: Path) -> int:
    return int(torch.load(path, weights_only=True)["global_step"])


@pytest.fixture
def peaked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The monitored score rises until update `PEAK` and falls from there."""
    log = FinetuneModule.log

    def scripted(self: Any, name: str, value: Any, *args: Any, **settings: Any) -> None:
        if name in {score for _, score, _ in TASKS.values()}:
            value = torch.tensor(1.0 - 0.01 * abs(self.trainer.global_step - PEAK))
        log(self, name, value, *args, **settings)

    monkeypatch.setattr(FinetuneModule, "log", scripted)


@pytest.fixture
def sslam(tmp_path: Path, peaked: None, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command on the recipe of a task, in the folder ``run``; what it prints to stderr."""

    def command(word: str, task: str, *options: str, run: str = "run") -> str:
        recipe, _, settings = TASKS[task]
        if task == "detection":
            data = tmp_path / "scenes"
            settings = {**settings, "data.root": data if data.exists() else make_scenes(data)}
        given = {**RUN, **settings, "trainer.default_root_dir": tmp_path / run}
        files = [config_folder() / name for name in (f"finetune/{recipe}.yaml", "overlays/trainer/cpu.yaml")]
        main([word, *(f"--config={file}" for file in files), *(f"--{k}={v}" for k, v in given.items()), *options])
        return capsys.readouterr().err

    return command


@pytest.mark.parametrize("task", TASKS)
def test_the_score_peaks_early(task, sslam, tmp_path):
    """U1: a run of 9 updates with its best score at update 4."""
    kept = tmp_path / "run" / "checkpoints"
    sslam("fit", task)
    assert sorted(os.listdir(kept)) == ["best.ckpt", "last.ckpt"]
    assert (step_of(kept / "last.ckpt"), step_of(kept / "best.ckpt")) == (9, PEAK)
    for word, update in (("last", 9), ("best", PEAK)):
        assert f"sslam: testing {kept}/{word}.ckpt (update {update})" in sslam("test", task, f"--ckpt_path={word}")
    assert f"sslam: validating {kept}/best.ckpt (update {PEAK})" in sslam("validate", task, "--ckpt_path=best")
    assert f"sslam: predicting with {kept}/best.ckpt (update {PEAK})" in sslam("predict", task, "--ckpt_path=best")

    more = "--trainer.max_steps=12"
    assert f"sslam: resuming from {kept}/last.ckpt (update 9)" in sslam("fit", task, "--ckpt_path=last", more)
    assert (step_of(kept / "last.ckpt"), step_of(kept / "best.ckpt")) == (12, PEAK)
    (tmp_path / "run").rename(tmp_path / "moved")
    sslam("fit", task, "--ckpt_path=last", "--trainer.max_steps=14", run="moved")
    kept = tmp_path / "moved" / "checkpoints"
    assert sorted(os.listdir(kept)) == ["best.ckpt", "last.ckpt"]  # no last-v1.ckpt, no best-v1.ckpt
    assert (step_of(kept / "last.ckpt"), step_of(kept / "best.ckpt")) == (14, PEAK)


def test_a_run_goes_on_from_its_best(sslam, tmp_path):
    kept = tmp_path / "run" / "checkpoints"
    sslam("fit", "fine-tuning")
    told = sslam("fit", "fine-tuning", "--ckpt_path=best", "--trainer.max_steps=6")
    assert f"sslam: resuming from {kept}/best.ckpt (update {PEAK})" in told
    assert (step_of(kept / "last.ckpt"), step_of(kept / "best.ckpt")) == (6, PEAK)


def test_lightnings_own_class_in_a_configuration(sslam, tmp_path):
    """U1: whatever is monitored, also by recipes that name Lightning's class."""
    settings = {"monitor": "val/mAP", "mode": "max", "save_last": True}
    callback = {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": settings}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks": [callback]}}))
    sslam("fit", "fine-tuning", f"--config={tmp_path}/mine.yaml")
    kept = tmp_path / "run" / "checkpoints"
    assert (step_of(kept / "last.ckpt"), step_of(kept / "best.ckpt")) == (9, PEAK)
    saved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["trainer"]["callbacks"]
    assert [one["class_path"] for one in saved] == ["sslam_lightning.training.callbacks.RunCheckpoint"]


def test_without_a_checkpoint(sslam, capsys, tmp_path):
    kept = tmp_path / "run" / "checkpoints"
    best = f"no best.ckpt in {kept}: it is kept by a RunCheckpoint with a monitored score"
    last = f"no checkpoint in {kept}: train first (sslam fit), or name a file"
    for command, word, told in (("test", "last", last), ("test", "best", best), ("fit", "best", best)):
        with pytest.raises(SystemExit):
            sslam(command, "fine-tuning", f"--ckpt_path={word}")
        assert f"sslam: error: {told}" in capsys.readouterr().err


def test_help_says_what_is_taken(capsys):
    for command in ("fit", "validate", "test", "predict"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        help_text = " ".join(capsys.readouterr().out.split())
        assert "'last', which is checkpoints/last.ckpt in trainer.default_root_dir, the newest state" in help_text
        assert "'best', which is checkpoints/best.ckpt" in help_text
