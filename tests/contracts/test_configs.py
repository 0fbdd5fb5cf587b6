"""Every recipe and overlay of configs/ becomes objects: `--print_config` would not notice a wrong value.

Recipes also take a step, on a GPU that is not there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import yaml
from fake_gpu import step_on_gpu
from jsonargparse import ArgumentParser
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.strategies import Strategy

from sslam_lightning.cli.fit.trainer import SSLAMCLI
from sslam_lightning.data.modules.base import AudioDataModule
from sslam_lightning.runtime.configs import config_folder
from sslam_lightning.training import Data2Vec1Module, FinetuneModule, PretrainModule
from sslam_lightning.training.callbacks import OnlineKNN, Pictures, RunCheckpoint

CONFIGS = config_folder()
FILES = sorted(path for path in CONFIGS.rglob("*.yaml") if "downstream" not in path.parts)  # see test_suites.py
RECIPES = [path for path in FILES if "seed_everything" in yaml.safe_load(path.read_text())]
CLIPWISE = [f"finetune/{path.name}" for path in RECIPES if path.parent.name == "finetune" and "dcase" not in path.name]
OVERLAYS = [path for path in FILES if path not in RECIPES]
SHARDED = "sslam_lightning.training.run.sharding.ShardedStrategy"
HERE = ["--trainer.accelerator", "cpu", "--trainer.devices", "1", "--trainer.strategy", "auto"]
HERE += ["--trainer.precision", "32-true"]


def _name(path: Path) -> str:
    return path.relative_to(CONFIGS).as_posix()


def _recipes_under(overlay: Path) -> list[str]:
    """What an overlay is written for, told by its name; otherwise a recipe of each kind."""
    name = _name(overlay)
    if name == "overlays/data/audioset_strong.yaml":
        return ["finetune/dcase2016_task2.yaml"]
    if overlay.parent.name == "as_published":
        tuned = [f"finetune/{name}.yaml" for name in ("audioset_20k", "speech_commands_v2", "spass")]
        stages = {"stage1": ["pretrain/eat_base.yaml", "pretrain/eat_large.yaml"], "stage2": ["pretrain/sslam_base.yaml"]}
        return stages.get(overlay.stem, tuned + ["finetune/esc50.yaml"] * (overlay.stem != "mixup"))
    if overlay.parent.name == "tiny":
        pattern = f"*{overlay.stem}_base.yaml" if overlay.stem != "mae_ast" else "mae_ast_*.yaml"
        return [f"pretrain/{path.name}" for path in sorted((CONFIGS / "pretrain").glob(pattern))]
    if "stage2" in name:
        return ["pretrain/sslam_base.yaml"]
    if name == "overlays/trainer/fsdp.yaml":
        return ["pretrain/eat_large.yaml"]
    if "stage1" in name or "pretrain" in name or name == "overlays/trainer/multinode.yaml":
        return ["pretrain/eat_base.yaml"]
    if name == "overlays/data/esc50.yaml":
        return ["pretrain/eat_base.yaml", "finetune/esc50.yaml"]
    if any(word in name for word in ("finetune", "linear", "probe")):
        return ["finetune/audioset_20k.yaml"]
    return ["pretrain/eat_base.yaml", "finetune/audioset_20k.yaml"]


def _files_between(overlay: Path, recipe: str) -> Iterable[str]:
    """The overlay, and those that it is written to stand behind."""
    if overlay.stem in ("mae_ast", "bat", "data2vec1_ast"):
        return ["overlays/data/synthetic.yaml", _name(overlay)]
    if overlay.parent.name in ("demo", "esc10"):
        small = "tiny" if overlay.parent.name == "demo" else "small"
        between = [f"overlays/sizes/{small}.yaml", "overlays/data/synthetic.yaml"]
        return [*between, *(["overlays/linear.yaml"] if "linear" in overlay.stem else []), _name(overlay)]
    return [_name(overlay)]


@pytest.fixture
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the data that the recipes name, as empty as may be."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["sslam"])
    # Drop path rates are read as plain numbers, which the meta device of `_instantiate` has none of.
    monkeypatch.setattr("torch.linspace", partial(torch.linspace, device="cpu"))
    audioset, esc50 = tmp_path / "data" / "audioset", tmp_path / "data" / "ESC-50"
    (esc50 / "audio").mkdir(parents=True)
    (esc50 / "meta").mkdir()
    audioset.mkdir()
    rows = "".join(f"{number},/m/{number},Class {number}\n" for number in range(527))
    for folder in (audioset, tmp_path):
        (folder / "class_map.csv").write_text("index,mid,name\n" + rows)
    table = ["filename,fold,target,category,esc10"]
    for number in range(50):
        (esc50 / "audio" / f"{number}.wav").touch()
        table.append(f"{number}.wav,{number % 5 + 1},{number},category {number},{number < 10}")
    (esc50 / "meta" / "esc50.csv").write_text("\n".join(table) + "\n")
    _make_downstream_sets(tmp_path / "data")
    return tmp_path


def _make_downstream_sets(data: Path) -> None:
    words, scene, strong = data / "speech_commands_v0.02", data / "SPASS" / "Square audio files", data / "audioset_strong"
    for folder in (words / "yes", words / "no", scene, strong, data / "dcase2016_task2"):
        folder.mkdir(parents=True)
    for file in (words / "yes/a.wav", words / "yes/b.wav", words / "no/a.wav", scene / "a.wav"):
        file.touch()
    (words / "validation_list.txt").write_text("yes/a.wav\n")
    (words / "testing_list.txt").write_text("yes/b.wav\n")
    (scene.parent / "3_MatrixLabelsSquare.csv").write_text("audio_filename,class\na.wav,dog\na.wav,wind\n")
    header = "segment_id\tstart_time_seconds\tend_time_seconds\tlabel\n"
    for split in ("train", "eval"):
        (strong / f"audioset_{split}_strong.tsv").write_text(header + "x_0\t0\t1\t/m/1\nx_0\t2\t3\t/m/2\n")
    (strong / "mid_to_display_name.tsv").write_text("/m/1\tDog\n/m/2\tCat\n")


def _instantiate(files: Iterable[str], *options: Any) -> SSLAMCLI:
    arguments = [argument for name in files for argument in ("--config", str(CONFIGS / name))]
    with torch.device("meta"):  # the large model would take gigabytes
        return SSLAMCLI(args=[*arguments, *HERE, *map(str, options)], run=False)


def _settings_in(name: str) -> dict[str, Any]:
    return yaml.safe_load((CONFIGS / name).read_text())


@cache
def _settings(recipe: str) -> dict[str, Any]:
    return _instantiate([recipe]).config.as_dict()


def _assert_whole(cli: SSLAMCLI) -> None:
    assert isinstance(cli.model, (PretrainModule, Data2Vec1Module, FinetuneModule))
    assert isinstance(cli.datamodule, AudioDataModule)
    assert isinstance(cli.trainer, pl.Trainer)
    if isinstance(cli.model, FinetuneModule):
        assert cli.model.num_classes == cli.datamodule.num_classes > 1
        assert cli.model.multi_label == cli.datamodule.multi_label
    assert cli.trainer.max_steps > 0 or cli.trainer.max_epochs
    if cli.model.features is not None:
        assert cli.model.features.sample_rate_hz == cli.datamodule.sample_rate_hz


def test_there_are_configs():
    assert {path.parent.name for path in FILES} >= {"pretrain", "finetune", "as_published", "sizes", "data", "trainer"}
    assert len([path for path in RECIPES if path.parent.name == "pretrain"]) >= 6
    assert len([path for path in RECIPES if path.parent.name == "finetune"]) >= 3


@pytest.mark.parametrize("path", RECIPES, ids=_name)
def test_recipes(path, somewhere):
    cli = _instantiate([_name(path)])
    _assert_whole(cli)
    assert Path(cli.trainer.default_root_dir).parent == Path("runs")
    updates = cli.model.optimizer_config.warmup_steps
    assert 0 < updates < cli.trainer.max_steps / 2
    assert path.read_text().startswith("# ")
    step_on_gpu(cli.model, cli.datamodule.sample_rate_hz)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("recipe", CLIPWISE)
def test_clips_of_one_class_and_of_several_by_one_setting_of_the_data(recipe, multi_label, somewhere):
    """U4: in every recipe for clips, as published or not, the loss and its divisor follow from the data."""
    given = _settings_in(recipe)["model"]["init_args"]
    for published in ([], ["overlays/as_published/finetune.yaml"]):
        options = ("--data.class_map=class_map.csv", f"--data.multi_label={str(multi_label).lower()}")
        cli = _instantiate([recipe, *published, "overlays/data/audioset.yaml"], *options)
        _assert_whole(cli)
        binary = multi_label or "criterion" in given
        assert cli.model.criterion == ("binary_cross_entropy" if binary else "cross_entropy")
        assert cli.model.bce_reduction == ("positives" if binary and published else "clips")
        (monitored,) = {kept.monitor for kept in cli.trainer.callbacks if isinstance(kept, RunCheckpoint)}
        assert monitored == f"val/{cli.model.score_name}"
        step_on_gpu(cli.model, cli.datamodule.sample_rate_hz)


def test_published_sizes(somewhere):
    """Width, depth, masks, updates, warm-up and rate of the published runs; overlays bring their accidents back."""
    expected = {
        "pretrain/eat_base.yaml": (768, 12, 16, 400_000, 53_333, 5e-4),
        "pretrain/eat_large.yaml": (1024, 24, 16, 400_000, 53_333, 4e-4),
        "pretrain/sslam_base.yaml": (768, 12, 8, 200_000, 25_000, 5e-5),
    }
    for name, (dim, depth, masks, updates, warmup, rate) in expected.items():
        cli = _instantiate([name])
        model, optimizer = cli.model, cli.model.optimizer_config
        assert (model.student.config.dim, model.student.config.depth, model.masks_per_clip) == (dim, depth, masks)
        assert (cli.trainer.max_steps, optimizer.warmup_steps, optimizer.lr) == (updates, warmup, rate)
        assert not optimizer.decay_all
        assert (model.utterance.reduction, model.utterance.weight) == ("mean", 192.0)
        published = _instantiate([name, f"overlays/as_published/stage{2 if model.mixing else 1}.yaml"]).model
        assert published.optimizer_config.decay_all
        assert (published.utterance.reduction, published.utterance.weight) == ("sum", 1.0)
        assert published.utterance.top_k_layers == model.utterance.top_k_layers
        assert (published.mixing is None) == (model.mixing is None)


@pytest.mark.parametrize("path", OVERLAYS, ids=_name)
def test_overlays(path, somewhere):
    text = path.read_text()
    assert text.startswith("# ")
    recipes = _recipes_under(path)
    assert recipes
    for recipe in recipes:
        cli = _instantiate([recipe, *_files_between(path, recipe)])
        _assert_whole(cli)
        if path.stem == "wandb":
            assert isinstance(cli.trainer.logger, WandbLogger)
        if path.stem == "watch_pretrain":  # beside the recipe's own
            kinds = [type(callback) for callback in cli.trainer.callbacks]
            assert [kinds.count(kind) for kind in (RunCheckpoint, Pictures, OnlineKNN)] == [1, 1, 1]
        elif path.parent.name != "trainer":  # overridden by HERE, as there may be no GPU
            assert cli.config.as_dict() != _settings(recipe)


@pytest.mark.parametrize(
    ("overlay", "kind"), [("multinode", "lightning.pytorch.strategies.DDPStrategy"), ("fsdp", SHARDED)], ids=lambda v: v
)
def test_strategies(overlay, kind):
    """Those that a machine without GPUs cannot start, which is why the tests above leave them out."""
    settings = yaml.safe_load((CONFIGS / "overlays" / "trainer" / f"{overlay}.yaml").read_text())["trainer"]["strategy"]
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--strategy", type=Strategy)
    strategy = parser.instantiate_classes(parser.parse_object({"strategy": settings})).strategy
    assert f"{type(strategy).__module__}.{type(strategy).__name__}".endswith(kind.rsplit(".", 1)[1])
    assert strategy._timeout == timedelta(minutes=10)


@pytest.mark.parametrize("overlay", ["gpu_pretrain", "multinode", "fsdp"])
def test_checkpoints_are_kept_as_the_overlay_says(overlay):
    callbacks = yaml.safe_load((CONFIGS / "overlays" / "trainer" / f"{overlay}.yaml").read_text())["trainer"]["callbacks"]
    callbacks = [callback for callback in callbacks if callback["class_path"].endswith("RunCheckpoint")]
    newest, every = (RunCheckpoint(**callback["init_args"]) for callback in callbacks)
    assert newest.save_last
    assert newest.save_top_k in (2, 3)
    assert newest._every_n_train_steps * 10 == every._every_n_train_steps
    assert newest.state_key != every.state_key  # else one would take the other's state


def test_the_commands_in_the_comments_name_files_that_exist():
    named = {name for path in FILES for name in re.findall(r"configs/[\w/]+\.yaml", path.read_text())}
    assert named
    assert [name for name in sorted(named) if not (CONFIGS.parent / name).is_file()] == []


def test_checkpoints_of_recipes_are_kept_by_one_class():
    """U1: recipes that validate keep last.ckpt and, by the score that is theirs, best.ckpt; others keep last.ckpt."""
    found = []
    for path in FILES:
        callbacks = ((yaml.safe_load(path.read_text()) or {}).get("trainer") or {}).get("callbacks") or []
        kept = [callback for callback in callbacks if callback["class_path"].endswith("Checkpoint")]
        assert {callback["class_path"] for callback in kept} <= {"sslam_lightning.training.callbacks.RunCheckpoint"}, path
        if kept:
            first = RunCheckpoint(**kept[0]["init_args"])
            assert first.save_last, path
            assert first.has_score == (path.parent.name == "finetune"), path
            found.append(path.parent.name)
    assert {"finetune", "pretrain", "trainer"} == set(found)
