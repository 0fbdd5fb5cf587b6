"""What a user gets wrong ends in one clear line and exit code 2, and nothing that was there before is lost."""

from __future__ import annotations

import csv
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from lightning.pytorch.callbacks import Callback

import sslam_lightning
from sslam_lightning.__main__ import main

_PACKAGE = Path(sslam_lightning.__file__).parents[1]

RECIPE = """
trainer:
  accelerator: cpu
  devices: 1
  max_epochs: 1
  num_sanity_val_steps: 0
  log_every_n_steps: 1
  enable_progress_bar: false
  enable_model_summary: false
data:
  class_path: sslam_lightning.data.SyntheticDataModule
  init_args: {num_train: 4, num_val: 2, clip_seconds: 0.66, batch_size: 2, num_workers: 0}
model:
  class_path: sslam_lightning.PretrainModule
  init_args:
    encoder: {dim: 16, depth: 2, num_heads: 2}
    decoder: {dim: 16, depth: 1, groups: 4}
    features: {num_frames: 64}
    targets: {top_k_layers: 2}
    masks_per_clip: 2
"""
STAGE_2 = ["--model.mixing", "sslam_lightning.mixing.PartialMixing", "--model.source_retention.weight", "2"]
FINETUNE = """
model:
  class_path: sslam_lightning.FinetuneModule
  init_args:
    encoder: {dim: 16, depth: 2, num_heads: 2}
    features: {num_frames: 64}
"""


class Infinite(Callback):
    """Spoils the weights behind the first update of the second epoch."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.current_epoch == 1:
            with torch.no_grad():
                next(pl_module.student.parameters()).fill_(float("nan"))


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def finetune_recipe(tmp_path: Path) -> Path:
    path = tmp_path / "finetune.yaml"
    path.write_text(RECIPE.split("model:")[0] + FINETUNE)
    return path


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def complaint(recipe: Path, run_folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that has to fail, and returns its one line."""

    def run(*options: Any, config: Path = recipe, command: str = "fit") -> str:
        with pytest.raises(SystemExit) as left:
            main([command, "--config", str(config), "--trainer.default_root_dir", str(run_folder), *map(str, options)])
        return _one_line(capsys.readouterr().err, left.value.code)

    return run


def _one_line(stderr: str, code: Any) -> str:
    assert code == 2, stderr
    assert "Traceback" not in stderr
    lines = [line for line in stderr.splitlines() if line.startswith("sslam: error: ")]
    assert len(lines) == 1, stderr
    assert stderr.rstrip().splitlines()[-1] == lines[0]  # and nothing behind it
    return lines[0].removeprefix("sslam: error: ")


def _fit(recipe: Path, run_folder: Path, *options: Any) -> None:
    main(["fit", "--config", str(recipe), "--trainer.default_root_dir", str(run_folder), *map(str, options)])


def _content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Going on -------------------------------------------------------------------------------------------------------------


def test_last_is_the_newest_whole_checkpoint(recipe, run_folder, capsys):
    """One command starts a run, and resumes it, whatever a crash left behind."""
    command = ["--ckpt_path", "last", "--trainer.max_epochs"]
    _fit(recipe, run_folder, *command, 1)
    assert f"no checkpoint in {run_folder}/checkpoints yet, starting from the beginning" in capsys.readouterr().err
    kept = run_folder / "checkpoints"
    (first,) = kept.glob("epoch=0*.ckpt")
    half = (kept / "last.ckpt").read_bytes()
    (kept / "last.ckpt").write_bytes(half[: len(half) // 2])
    torch.save({"a": 1}, kept / "mine.ckpt")
    _fit(recipe, run_folder, *command, 2)
    told = capsys.readouterr().err
    assert f"sslam: passed over: {kept / 'last.ckpt'} cannot be opened as a checkpoint: " in told
    assert f"sslam: passed over: {kept / 'mine.ckpt'} is no run to go on with" in told
    assert f"sslam: resuming from {first}" in told
    assert torch.load(kept / "last.ckpt", weights_only=True)["global_step"] == 4


# Keys and values -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            ["--model.masks_per_clipp", "3"],
            "Option 'model.masks_per_clipp' is not accepted: did you mean model.masks_per_clip?",
        ),
        (["--trainer.max_stepz", "3"], "unrecognized arguments: --trainer.max_stepz 3: did you mean --trainer.max_steps?"),
        (["--data.num_trains", "3"], "Option 'data.num_trains' is not accepted: did you mean data.num_train?"),
        (["--data.batchsize", "3"], "Option 'data.batchsize' is not accepted: did you mean data.batch_size?"),
        (["--model.optimzer.lr", "1"], "arguments: --model.optimzer.lr=1: did you mean --model.optimizer.lr?"),
        (["--modle.seed", "1"], "unrecognized arguments: --modle.seed 1: did you mean --seed_everything?"),
        (["--modle.optimzer.lr=1"], "unrecognized arguments: --modle.optimzer.lr=1: did you mean --model.optimizer.lr?"),
        (["--dat.num_train=1"], "unrecognized arguments: --dat.num_train=1: did you mean --data.num_train?"),
        (["--modle.label_smoothing=0"], "unrecognized arguments: --modle.label_smoothing=0 (see"),  # fine-tuning's
        (["--model.sede", "1"], "Option 'model.sede' is not accepted (see"),  # seed_everything decides it
        (["--configs", "x.yaml"], "unrecognized arguments: --configs x.yaml: did you mean --config?"),
        (["--model.encoder.dimm", "16"], "arguments: --model.encoder.dimm=16: did you mean --model.encoder.dim?"),
        (
            ["--model.utterance.wieght", "2"],
            "Option 'model.utterance.wieght' is not accepted: did you mean model.utterance.weight?",
        ),
        (["--model.num_train", "2"], "Option 'model.num_train' is not accepted"),
        (["--trainer.xyzzy", "2"], "unrecognized arguments: --trainer.xyzzy 2"),
        (
            ["--model.init_args.masks_per_klip", "3"],
            "Option 'model.masks_per_klip' is not accepted: did you mean model.masks_per_clip?",
        ),
        (
            ["--data", "sslam_lightning.data.ESC51DataModule"],
            "sslam_lightning.data.ESC51DataModule: did you mean ESC50DataModule?",
        ),
        (
            ["--data", "ESC51DataModule"],
            "string: ESC51DataModule. Got value: ESC51DataModule: did you mean ESC50DataModule?",
        ),
        (
            ["--data", "torch.nn.Linear"],
            "does not correspond to a subclass of AudioDataModule. Got value: torch.nn.Linear",
        ),
        (["--model", "sslam_lightning.PretrainModul"], "PretrainModul: did you mean PretrainModule?"),
        (
            ["--model.masking", "UniformMsk"],
            "or invalid Expected a dot import path string: UniformMsk: did you mean UniformMask?",
        ),
        (
            ["--model.mixing", "PartialMixin"],
            "path string: PartialMixin. Got value: PartialMixin: did you mean PartialMixing?",
        ),
        (
            ["--model.mixing", "torch.nn.Linear"],
            "Import path does not correspond to a subclass of Mixer. Got value: torch.nn.Linear",
        ),
        (
            ["--trainer.callbacks+", "EarlyStoping"],
            "path string: EarlyStoping. Got value: EarlyStoping: did you mean EarlyStopping?",
        ),
        (
            ["--trainer.callbacks+", "EMATeachr"],
            "a dot import path string: EMATeachr. Got value: EMATeachr: did you mean EMATeacher?",
        ),
        (
            ["--trainer.logger", "WandbRunn"],
            "or Expected a <class 'bool'>. Got value: WandbRunn: did you mean WandbRun?",
        ),
        (
            ["--trainer.callbacks", "3"],
            "Expected a <class 'list'> or Expected a dot import path string: 3. Got value: 3",
        ),
        (["--model.masks_per_clip", "many"], "key \"model.masks_per_clip\": Expected a <class 'int'>. Got value: many"),
        (["--model.optimizer.lr", "abc"], "key \"model.optimizer.lr\": Expected a <class 'float'>. Got value: abc"),
        (
            ["--model.masking.mask_ratio", "half"],
            "Parser key \"model.masking.mask_ratio\": Expected a <class 'float'>. Got value: half",
        ),
        (
            ["--model.collapse", "no"],
            'Parser key "model.collapse": Unable to load config \'no\' Parser key "collapse": Unable to load config "no"',
        ),
        (["--trainer.max_epochs", "1.5"], "key \"trainer.max_epochs\": Expected a <class 'int'>. Got value: 1.5"),
        (
            ["--trainer.limit_val_batches", "few"],
            "Expected a <class 'int'> or Expected a <class 'float'>. Got value: few",
        ),
        (
            ["--trainer.precision", "fp17"],
            "'64-true'] or Expected a typing.Literal['64', '32', '16', 'bf16']. Got value: fp17",
        ),
        (
            ["--model.optimizer.warmup_steps", "null"],
            "Parser key \"model.optimizer.warmup_steps\": Expected a <class 'int'>. Got value: None",
        ),
        (
            ["--model.masking", "nomod.X"],
            "or invalid Problem with given class_path 'nomod.X': No module named 'nomod'",
        ),
        (
            ["--trainer.callbacks+", "nomod.X"],
            "with given class_path 'nomod.X': No module named 'nomod'. Got value: nomod.X",
        ),
        (["--trainer.max_steps", ""], "Parser key \"trainer.max_steps\": Expected a <class 'int'>. Got value:"),
        (["--trainer.default_root_dir", "null"], "trainer.default_root_dir must be a folder, got null"),
        (
            ["--trainer.devices", "both"],
            "does not fit together: `devices` selected with `CPUAccelerator` should be",
        ),
        (["--trainer.devices", "-1"], "does not fit together: `devices` selected with `CPUAccelerator` should be"),
        (
            ["--seed_everything", "x"],
            "Parser key \"seed_everything\": Expected a <class 'bool'> or Expected a <class 'int'>. Got value: x",
        ),
        (["--seed_everything", "-1"], "seed_everything must lie between 0 and 4294967295, got -1"),
        (["--trainer.accumulate_grad_batches", "0"], "trainer.accumulate_grad_batches must be at least 1, got 0"),
        (["--trainer.log_every_n_steps", "-1"], "trainer.log_every_n_steps must be at least 0, got -1"),
        (["--trainer.check_val_every_n_epoch", "0"], "trainer.check_val_every_n_epoch must be at least 1, got 0"),
        (["--trainer.num_sanity_val_steps", "-2"], "trainer.num_sanity_val_steps must be at least -1, got -2"),
        (["--trainer.gradient_clip_val", "-1"], "gradient_clip_val must not be negative, got -1"),
        (["--trainer.val_check_interval", "0"], "trainer.val_check_interval must be positive, got 0"),
        (["--trainer.max_steps", "null"], "key \"trainer.max_steps\": Expected a <class 'int'>. Got value: None"),
        (["--data.batch_size", "null"], "Parser key \"data.batch_size\": Expected a <class 'int'>. Got value: None"),
        (["--model.encoder.dim", "null"], "Parser key \"model.encoder.dim\": Expected a <class 'int'>. Got value: None"),
        (["--model.encoder.prenet_depth", "-1"], "encoder: prenet_depth must not be negative, got -1"),
        (["--model.encoder.norm_eps", "0"], "encoder: norm_eps must be positive, got 0"),
        (["--model.regression.weight", "-1"], "regression: weight must be a number from 0 on, got -1"),
        (["--model.regression.beta", "-1"], "regression: beta must be a number from 0 on, got -1"),
        (["--model.utterance.scale", "0"], "utterance: scale must be positive, got 0"),
        (["--model.optimizer.max_steps", "0"], "optimizer: max_steps must be at least 1, got 0"),
        (["--model.optimizer.min_lr", "-1"], "optimizer: min_lr must not be negative, got -1"),
        (["--model.collapse.start_step", "-1"], "collapse: start_step must not be negative, got -1"),
        (["--model.masking.mask_ratio_adjust", "-1"], "masking: mask_ratio_adjust must lie in [0, 1), got -1"),
        (["--model.encoder.mlp_ratio", "-1"], "encoder: mlp_ratio must be at least 1 / dim, got -1.0 and dim 16"),
        (["--model.masks_per_clip", "0"], "masks_per_clip must be at least 1, got 0"),
        (["--data.batch_size", "0"], "batch_size must be at least 1, got 0"),
        (["--model.source_retention.weight", "2"], "source_retention needs mixing"),
        (["--model.dino.weight", "1"], "dino takes the place of utterance"),
        (["--model.targets.top_k_layers", "3"], "targets.top_k_layers must lie between 1 and 2, got 3"),
        (["--model.features.num_frames", "65"], "num_frames must be a positive multiple of patch_frames = 16"),
        (["--model.masking.mask_ratio", "1.5"], "mask_ratio must lie between 0 and 1, got 1.5"),
        (["--model.ema.decay", "1.5"], "0 <= decay <= end_decay <= 1, got 1.5"),
        (["--model.optimizer.lr", "0"], "lr must be positive, got 0"),
        (["--model.encoder.dim", "18"], "dim must be a multiple of 4"),
        (["--model.features.sample_rate_hz", "8000"], "audio at 8000 Hz, the data comes at 16000 Hz"),
        (
            ["--trainer.precision", "bf16-true"],
            "trainer.precision must be one of 32-true, bf16-mixed, 16-mixed, got bf16-true",
        ),
        (["--model.encoder.dropout", "1.5"], "encoder: dropout must lie in [0, 1), got 1.5"),
        (["--model.encoder.drop_path_end", "1.5"], "encoder: drop_path_end must lie in [0, 1), got 1.5"),
        (["--model.decoder.noise_std", "-1"], "decoder: noise_std must not be negative, got -1"),
        (["--model.optimizer.weight_decay", "-1"], "optimizer: weight_decay must not be negative, got -1"),
        (["--model.optimizer.betas", "[2, 0.9]"], "optimizer: betas must lie in [0, 1), got 2.0 and 0.9"),
        (["--model.ema.anneal_steps", "-5"], "ema: anneal_steps must not be negative, got -5"),
        (["--trainer.max_epochs", "-1"], "trainer.max_steps or optimizer.max_steps"),
    ],
    ids=lambda value: "" if isinstance(value, str) else value[0],
)
def test_keys_and_values(options, told, complaint, run_folder):
    assert told in complaint(*options)
    assert not (run_folder / "checkpoints").exists()


def test_a_misspelt_key_in_a_file(complaint, tmp_path):
    path = tmp_path / "misspelt.yaml"
    path.write_text(RECIPE.replace("masks_per_clip", "mask_per_clip"))
    assert f"{path}: Option 'model.mask_per_clip' is not accepted: did you mean model.masks_per_clip?" in complaint(
        config=path
    )


def test_no_recipe_at_all(capsys):
    with pytest.raises(SystemExit):
        main(["fit"])
    needed = "name a recipe in --config first, or a class in --model (see sslam fit --help)"
    assert capsys.readouterr().err.strip().endswith(f"the following arguments are required: fit.model: {needed}")
    with pytest.raises(SystemExit):
        main(["fit", "--model.masks_per_clip", "3"])
    assert capsys.readouterr().err.strip().endswith(needed)


def test_a_missing_config(complaint, tmp_path):
    path = tmp_path / "absent.yaml"
    assert f"File does not exist: '{path}'" in complaint(config=path)


def test_a_file_that_is_not_yaml(complaint, tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text("model: [1, 2\ntrainer: }")
    told = complaint(config=path)
    assert told.startswith(f"{path}: ")
    assert re.search(r"did not find expected ',' or '\]' in .*line 2, column 8", told)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "{}: Unexpected config: "),
        (b"- trainer\n- data", "{}: Unexpected config: - trainer data"),
        (b"\x80\x02\xff", "{}: 'utf-8' codec can't decode byte 0x80 in position 0"),
        (b"model: [1]", '{}: Parser key "model": Not a valid subclass of AudioModule. Got value: [1]: name a recipe in'),
        (
            b"data: null\nmodel: sslam_lightning.PretrainModule",
            '{}: Parser key "data": Expected a table of settings. Got value: None',
        ),
        (RECIPE.split("    encoder:")[0].encode(), '{}: Parser key "model": Problem with given class_path \'sslam_light'),
    ],
)
def test_files_that_are_no_recipe(content, told, complaint, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    assert told.format(path) in complaint(config=path)


@pytest.mark.parametrize(
    ("here", "wrong", "told"),
    [
        (
            "masks_per_clip: 2",
            "masks_per_clip: many",
            "{}: Parser key \"model.masks_per_clip\": Expected a <class 'int'>. Got value",
        ),
        ("masks_per_clip: 2", "optimizer: {max_step: 5}", "{}: Group 'model.optimizer' does not accept option 'max_step'"),
        (
            "masks_per_clip: 2",
            "utterance: {weight: x}",
            "{}: Parser key \"model.utterance.weight\": Expected a <class 'float'>. Got value: x",
        ),
        ("masks_per_clip: 2", "utterance: {weight: .nan}", "utterance: weight must be a number from 0 on, got nan"),
        (
            "masks_per_clip: 2",
            "masking: 3",
            '{}: Parser key "model.masking": Not a valid subclass of MaskSampler. Got value: 3',
        ),
        ("masks_per_clip: 2", "collapse: x", "{}: Parser key \"model.collapse\": Unable to load config 'x'"),
        ("dim: 16, depth: 2", "dimm: 16", "{}: Group 'model.encoder' does not accept option 'dimm': did you mean model"),
        ("num_train: 4", "num_trian: 4", "{}: Option 'data.num_trian' is not accepted: did you mean data.num_train?"),
        (
            "DataModule\n",
            "DataModul\n",
            '{}: Parser key "data": Problem with given class_path \'sslam_lightning.data.Synth',
        ),
        ("devices: 1", "overfit_batches: null", '{}: Parser key "trainer.overfit_batches": Expected a '),
        ("num_val: 2", "num_val: null", "{}: Parser key \"data.num_val\": Expected a <class 'int'>. Got value: None"),
        ("masks_per_clip: 2", "masks_per_clip: null", '{}: Parser key "model.masks_per_clip": Expected a '),
        ("masks_per_clip: 2", "encoder: null", '{}: Parser key "model.encoder": Expected a table of settings. Got value: '),
        (
            "masks_per_clip: 2",
            "utterance: {reduction: null}",
            "{}: Parser key \"model.utterance.reduction\": Expected a typing.Literal['sum', 'mean']. Got value: None",
        ),
    ],
)
def test_settings_in_files(here, wrong, told, complaint, tmp_path):
    assert here in RECIPE
    path = tmp_path / "wrong.yaml"
    path.write_text(RECIPE.replace(here, wrong))
    line = complaint("--model.regression.weight=2", "--trainer.max_steps=1", config=path)
    assert line.startswith(told.format(path))


def test_an_overlay_without_its_recipe(complaint, recipe, tmp_path):
    """Its settings are of a class that nothing has named yet."""
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("data: {init_args: {num_train: 2}}\nmodel: {init_args: {masks_per_clip: 3}}")
    assert "name a recipe in --config first, or a class in --model" in complaint(config=overlay)
    assert "name a recipe in --config first, or a class in --model" in complaint("--config", recipe, config=overlay)
    assert "got 0" in complaint("--config", overlay, "--model.masks_per_clip", 0)


def test_the_recipe_that_was_meant(complaint, tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text(RECIPE)
    told = f"File does not exist: '{tmp_path}/mein.yaml': did you mean {tmp_path}/mine.yaml?"
    assert told in complaint(config=tmp_path / "mein.yaml")
    monkeypatch.chdir(_PACKAGE)
    told = complaint(config=Path("configs/pretrain/eat_bas.yaml"))
    assert "did you mean configs/pretrain/eat_base.yaml?" in told
    monkeypatch.chdir(tmp_path)  # beside no recipes of the project
    for name in ("pretrain/eat_bsae", "configs/pretrain/eat_bsae.yaml", "eat_base"):
        assert "did you mean pretrain/eat_base?" in complaint(config=Path(name))
    assert "did you mean overlays/sizes/tiny?" in complaint("--config=overlay/sizes/tiny")
    assert f"Path is not a file: '{tmp_path}'" in complaint(config=tmp_path)


def test_an_unknown_command(capsys):
    with pytest.raises(SystemExit) as left:
        main(["fitt"])
    assert "fitt" in _one_line(capsys.readouterr().err, left.value.code)


# Runs and checkpoints ------------------------------------------------------------------------------------------------


def test_a_folder_that_holds_a_run_is_left_as_it_is(complaint, recipe, run_folder):
    _fit(recipe, run_folder)
    before = _content(run_folder)
    assert {"config.yaml", "checkpoints/last.ckpt", "logs/version_0/metrics.csv"} <= before.keys()
    line = complaint()
    assert "already holds a run" in line
    assert "Resume it with --ckpt_path last, or name another folder" in line
    assert _content(run_folder) == before

    # The advice works, and adds to the run.
    _fit(recipe, run_folder, "--ckpt_path", run_folder / "checkpoints/last.ckpt", "--trainer.max_epochs", 2)
    after = _content(run_folder)
    assert after["config.yaml"] == before["config.yaml"]
    assert "config_resumed_1.yaml" in after
    assert torch.load(run_folder / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 4
    rows = [content["logs/version_0/metrics.csv"].decode().splitlines()[1:] for content in (before, after)]
    assert rows[1][: len(rows[0])] == rows[0]
    assert len(rows[1]) > len(rows[0])
    assert "logs/version_1/metrics.csv" not in after


@pytest.mark.parametrize("option", ["--model.init_from", "--ckpt_path"])
def test_checkpoints_that_are_none(option, complaint, tmp_path, run_folder):
    assert str(tmp_path / "absent.ckpt") in complaint(option, tmp_path / "absent.ckpt")
    text = tmp_path / "text.ckpt"
    text.write_text("not a checkpoint")
    assert str(text) in complaint(option, text)
    other = tmp_path / "other.pt"
    torch.save({"weights": torch.zeros(3)}, other)
    assert str(other) in complaint(option, other)
    assert not (run_folder / "checkpoints").exists()


def test_a_checkpoint_of_another_size_names_the_first_mismatch(complaint, recipe, tmp_path):
    kept = tmp_path / "small" / "checkpoints" / "last.ckpt"
    _fit(recipe, tmp_path / "small")
    line = complaint("--ckpt_path", kept, "--model.encoder.dim", 32)
    assert re.search(r"student.cls_token has shape \(1, 1, 16\), the model expects \(1, 1, 32\)", line)
    line = complaint("--model.init_from", kept, "--model.encoder.dim", 32)
    assert line.endswith("its encoder.dim is 16, the configured one is 32")


def test_finetuning_from_a_checkpoint_of_another_size(complaint, recipe, finetune_recipe, tmp_path):
    _fit(recipe, tmp_path / "small")
    kept = tmp_path / "small" / "checkpoints" / "last.ckpt"
    line = complaint("--model.init_from", kept, "--model.encoder.depth", 3, config=finetune_recipe)
    assert line.endswith("its encoder.depth is 2, the configured one is 3")
    line = complaint("--model.init_from", kept, "--model.encoder.dim", 32, config=finetune_recipe)
    assert line.endswith("its encoder.dim is 16, the configured one is 32")


def test_a_checkpoint_without_a_teacher(complaint, finetune_recipe, tmp_path):
    _fit(finetune_recipe, tmp_path / "first")
    kept = tmp_path / "first" / "checkpoints" / "last.ckpt"
    line = complaint("--model.init_from", kept, "--model.init_encoder", "teacher", config=finetune_recipe)
    assert "holds no teacher" in line


# Recordings and labels -----------------------------------------------------------------------------------------------


@pytest.fixture
def audioset(tmp_path: Path) -> Path:
    """Eight recordings of two classes in fairseq's form."""
    folder = tmp_path / "audioset"
    (folder / "wav").mkdir(parents=True)
    draw = np.random.default_rng(3)
    for number in range(8):
        soundfile.write(folder / "wav" / f"{number}.wav", 0.1 * draw.standard_normal(11_000), 16_000)
    (folder / "train.tsv").write_text("wav\n" + "".join(f"{number}.wav\t11000\n" for number in range(8)))
    (folder / "train.lbl").write_text("".join(f"{number}.wav\t/m/{'ab'[number % 2]}\n" for number in range(8)))
    (folder / "classes.csv").write_text("index,mid,name\n0,/m/a,Ape\n1,/m/b,Bee\n")
    return folder


def _from(folder: Path, *more: Any) -> list[Any]:
    files = ("--data.train_manifest", folder / "train.tsv", "--data.class_map", folder / "classes.csv")
    return ["--data", "sslam_lightning.data.AudioSetDataModule", *files, "--data.num_workers", 0, *more]


def test_what_the_broken_manifests_are_made_from_is_whole(audioset, finetune_recipe, run_folder):
    _fit(finetune_recipe, run_folder, *_from(audioset))
    assert (run_folder / "checkpoints" / "last.ckpt").exists()


def _remove_manifest(folder: Path) -> None:
    (folder / "train.tsv").unlink()


def _empty_manifest(folder: Path) -> None:
    (folder / "train.tsv").write_text("")


def _manifest_of_a_root_alone(folder: Path) -> None:
    (folder / "train.tsv").write_text("wav\n")


def _malformed_row(folder: Path) -> None:
    (folder / "train.tsv").write_text("wav\n0.wav\t11000\n1.wav 11000\n")


def _row_without_its_file(folder: Path) -> None:
    (folder / "wav" / "5.wav").unlink()


def _unknown_label(folder: Path) -> None:
    text = (folder / "train.lbl").read_text()
    (folder / "train.lbl").write_text(text.replace("3.wav\t/m/b", "3.wav\t/m/zebra"))


def _no_label_file(folder: Path) -> None:
    (folder / "train.lbl").unlink()


def _no_entry(folder: Path) -> None:
    (folder / "train.lbl").write_text("0.wav\t/m/a\n")


def _no_classes(folder: Path) -> None:
    (folder / "classes.csv").unlink()


def _short_clips(folder: Path) -> None:
    for path in (folder / "wav").iterdir():
        soundfile.write(path, np.zeros(1000), 16_000)


def _all_broken(folder: Path) -> None:
    for path in (folder / "wav").iterdir():
        path.write_text("no sound")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (_remove_manifest, r"train\.tsv does not exist"),
        (_empty_manifest, r"train\.tsv: empty manifest"),
        (_manifest_of_a_root_alone, r"train\.tsv: empty manifest"),
        (_malformed_row, r"train\.tsv, line 3: expected 'path<TAB>samples', got '1\.wav 11000'"),
        (_row_without_its_file, r"1 of 8 files do not exist, the first is .*5\.wav"),
        (_unknown_label, r"train\.lbl, line 4: label '/m/zebra' of 3\.wav is not among the label descriptors"),
        (_no_label_file, r"train\.lbl does not exist"),
        (_no_entry, r"train\.lbl: no entry for 1\.wav"),
        (_no_classes, r"classes\.csv do not exist"),
        (
            _short_clips,
            r"clips cannot be used, more .* \d\.wav: too short, 1000 samples where the model needs 2800",
        ),
        (_all_broken, r"(cannot be used|can be read).*not readable as audio"),
    ],
)
def test_recordings_and_labels(spoil, told, audioset, complaint, finetune_recipe, run_folder):
    spoil(audioset)
    assert re.search(told, complaint(*_from(audioset), config=finetune_recipe))
    assert not (run_folder / "checkpoints").exists()


def test_the_worker_that_met_a_bad_clip_is_not_seen(audioset, complaint, finetune_recipe):
    _all_broken(audioset)
    line = complaint(*_from(audioset), "--data.num_workers", 1, config=finetune_recipe)
    assert re.match(r"(none of the 2 clips of this batch can be read|\d+ of \d+ clips cannot be used)", line)


@pytest.mark.parametrize("why", ["not readable as audio", "too short, 1000 samples where the model needs 2800"])
def test_a_clip_that_cannot_be_used_is_left_out_with_its_label(why, audioset, finetune_recipe, run_folder, caplog, capsys):
    """Class b is the broken clip alone: were its label kept for another clip, the class would be scored."""
    if why.startswith("too short"):
        soundfile.write(audioset / "wav" / "3.wav", np.zeros(1000), 16_000)
    else:
        (audioset / "wav" / "3.wav").write_text("no sound")
    (audioset / "train.lbl").write_text("".join(f"{n}.wav\t/m/{'b' if n == 3 else 'a'}\n" for n in range(8)))
    options = _from(audioset, "--data.val_manifest", audioset / "train.tsv", "--data.batch_size", 4)
    with caplog.at_level(logging.WARNING, "sslam_lightning"):
        _fit(finetune_recipe, run_folder, *options)
    assert "1 clips could not be used and were left out together with their labels" in caplog.text
    assert re.search(rf"3\.wav: .*{why}", caplog.text)
    with (run_folder / "logs" / "version_0" / "metrics.csv").open() as file:
        (scored,) = (row["val/mAP_num_classes"] for row in csv.DictReader(file) if row["val/mAP_num_classes"])
    assert float(scored) == 1
    kept = run_folder / "checkpoints" / "last.ckpt"
    folder = ["--trainer.default_root_dir", str(run_folder), "--trainer.logger", "false"]
    main(["predict", "--config", str(finetune_recipe), "--ckpt_path", str(kept), *map(str, options), *folder])
    predictions = run_folder / "predictions.csv"
    assert f"predictions: {predictions}" in capsys.readouterr().out
    with predictions.open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["name", "Ape", "Bee"]
    assert [row[0] for row in rows[1:]] == [f"{n}.wav" for n in range(8) if n != 3]


def test_what_is_wrong_with_the_data_is_said_before_processes_are_started(complaint, tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a process was started"))
    options = ["--data", "sslam_lightning.data.AudioSetDataModule", "--data.train_manifest", tmp_path / "absent.tsv"]
    told = complaint(*options, "--trainer.devices", 2, "--trainer.strategy", "ddp")
    assert told == f"manifest {tmp_path / 'absent.tsv'} does not exist (`sslam data scan FOLDER` writes one)"


def test_a_recipe_for_gpus_is_not_started_on_a_cpu(complaint, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a process was started"))
    told = complaint("--trainer.accelerator", "auto", "--trainer.devices", 4)
    assert told.startswith(
        "this is a recipe for 4 GPUs, and there is none here: layer configs/overlays/trainer/cpu.yaml over it, and"
    )


def test_what_cannot_be_evaluated_is_told(complaint, recipe, run_folder, tmp_path):
    _fit(recipe, tmp_path / "pretrained")
    last = tmp_path / "pretrained/checkpoints/last.ckpt"
    told = complaint("--ckpt_path", last, command="test")
    assert told.startswith(
        "PretrainModule, which the checkpoint holds, has nothing to test: fine-tune it (configs/finetune)"
    )
    absent = tmp_path / "absent.ckpt"
    told = f"no checkpoint at {absent}, which model.init_from names"
    assert complaint("--model.init_from", absent) == f"{told}; set it to another, or to null for random weights"
    told = f"{told}; give --ckpt_path, a checkpoint of the run"
    assert complaint("--model.init_from", absent, command="validate") == told
    for command in ("validate", "test", "predict"):
        assert complaint(command=command).startswith("there is nothing to evaluate: give --ckpt_path, or a checkpoint in")
        assert complaint("--trainer.devices", command=command).endswith(f"(see sslam {command} --help)")
    told = "there is nothing to evaluate: trainer.limit_val_batches is 0, set it to 1.0 for all batches"
    assert complaint("--ckpt_path", last, "--trainer.limit_val_batches", 0, command="validate") == told


# Training ------------------------------------------------------------------------------------------------------------


def test_a_batch_of_one_in_stage_2(complaint):
    assert "mixing needs at least 2 clips on each device, got a batch of 1" in complaint(*STAGE_2, "--data.batch_size", 1)


@pytest.mark.parametrize(
    "spoil",
    [["--model.optimizer.lr", "1e30"], [f"--trainer.callbacks+={__name__}.Infinite"]],
    ids=["learning rate", "weights"],
)
def test_a_loss_that_is_no_number_keeps_the_last_whole_checkpoint(spoil, complaint, recipe, run_folder, tmp_path):
    line = complaint(*spoil, "--trainer.max_epochs", 5)
    assert "became NaN or infinite" in line
    kept = sorted((run_folder / "checkpoints").glob("*.ckpt"))
    assert kept
    contents = [torch.load(path, weights_only=True) for path in kept]
    assert all(value.isfinite().all() for content in contents for value in content["state_dict"].values())
    if "lr" in spoil[0]:
        return  # huge after the first step, and no step since has moved them
    assert [content["global_step"] for content in contents] == [2] * len(kept)
    again = tmp_path / "again"
    _fit(recipe, again, "--ckpt_path", kept[-1], "--trainer.max_epochs", 2)
    assert (again / "checkpoints" / "last.ckpt").exists()


def test_a_collapse_is_told(complaint):
    line = complaint("--model.collapse.start_step", 0, "--model.collapse.min_target_std", 100)
    assert re.search(r"collapse: after 1 updates the target std is [\d.]+, below its bound 100", line)
    assert "model.collapse.min_target_std" in line


# The real command line -----------------------------------------------------------------------------------------------


def test_from_outside(recipe, tmp_path):
    """Exit code, one line, no traceback: as the shell sees it."""
    path = os.pathsep.join([str(_PACKAGE), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "sslam_lightning", "fit", "--config", str(recipe), "--model.masks_per_clip", "0"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert _one_line(done.stderr, done.returncode) == "masks_per_clip must be at least 1, got 0"
    assert not (tmp_path / "runs").exists()
