"""U4: what the data module or the run decides is refused under ``model``, wherever it is given."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sslam_lightning.cli.command_line import CommandLine
from sslam_lightning.cli.linked_settings import OF_DATA, refuse_linked_settings
from sslam_lightning.cli.trainer import SSLAMCLI

MODEL = ["--model", "sslam_lightning.FinetuneModule"]


@pytest.mark.parametrize("name", OF_DATA)
@pytest.mark.parametrize(
    "form",
    [
        "--model.{}=1",
        "--model.{} 1",
        "--model.init_args.{}=1",
        "--model.init_args {{{}: 1}}",
        "--model.dict_kwargs.{}=1",
        "--model.dict_kwargs {{{}: 1}}",
        "--config {{model.init_args.{}: 1}}",
        "--config {{model: {{dict_kwargs: {{{}: 1}}}}}}",
    ],
)
def test_every_setting_of_the_data_is_refused(name: str, form: str) -> None:
    """U4: also at its default, in whatever form it is typed."""
    words = ["fit", *MODEL, *form.format(name).split(" ", 1)]
    place = rf"^{'--config: ' if '--config' in form else ''}model\.{name}"
    with pytest.raises(ValueError, match=rf"{place} comes from the data: leave it out, or set data\.{name}$"):
        refuse_linked_settings(CommandLine(words), OF_DATA)
    with pytest.raises(ValueError, match=rf"{place} comes from the data: leave it out$"):
        refuse_linked_settings(CommandLine(words), ())


def test_files_are_named(tmp_path: Path) -> None:
    """U4: a configuration file, with or without ``init_args``."""
    (tmp_path / "a.yaml").write_text("model: {class_path: sslam_lightning.FinetuneModule, init_args: {num_classes: 527}}\n")
    told = "a.yaml: model.num_classes comes from the data: leave it out, or set data.label_descriptors"
    with pytest.raises(ValueError, match=f"^{re.escape(told)}$"):
        refuse_linked_settings(CommandLine(["fit", "--config", "a.yaml"], tmp_path), ["label_descriptors", "root"])


@pytest.mark.parametrize("form", ["--model own.yaml", "--model=own.yaml", "--config all.yaml", "-call.yaml", "-c=all.yaml"])
def test_files_of_the_model_alone(form: str, tmp_path: Path) -> None:
    """U4: settings of a part may stand in a file of their own, next to the file that names it."""
    (tmp_path / "own.yaml").write_text("{class_path: sslam_lightning.FinetuneModule, init_args: {resampler: soxr}}\n")
    (tmp_path / "all.yaml").write_text("model: own.yaml\n")
    told = r"^own\.yaml: model\.resampler comes from the data: leave it out, or set data\.resampler$"
    with pytest.raises(ValueError, match=told):
        refuse_linked_settings(CommandLine(["fit", *form.split()], tmp_path), OF_DATA)
    (tmp_path / "in").mkdir()
    for name in ("own.yaml", "all.yaml"):
        (tmp_path / name).rename(tmp_path / "in" / name)
    with pytest.raises(ValueError, match=r"^in/own\.yaml: model\.resampler"):
        refuse_linked_settings(CommandLine(["fit", "--config", "in/all.yaml"], tmp_path), OF_DATA)


@pytest.mark.parametrize("part", ["model", "data"])
def test_there_is_one_seed(part: str) -> None:
    """U4: a seed of its own would be overwritten too."""
    with pytest.raises(ValueError, match=rf"^{part}\.seed comes from the run: leave it out, or set seed_everything$"):
        refuse_linked_settings(CommandLine(["fit", f"--{part}.seed=3"]), ())


def test_the_data_keeps_its_own() -> None:
    refuse_linked_settings(CommandLine(["fit", *MODEL, "--data.num_classes=3", "--data.resampler", "soxr"]), OF_DATA)


def test_the_command_line_knows_what_the_data_module_takes() -> None:
    """U4: a folder has no setting for classes, but one for the resampler."""
    data = ["--data", "sslam_lightning.data.AudioFolderDataModule", "--data.root", "."]
    for kind in ("FinetuneModule", "DetectionModule"):
        model = ["--model", f"sslam_lightning.{kind}"]
        for name, told in (("num_classes=7", "leave it out$"), ("resampler=soxr", r"or set data\.resampler$")):
            with pytest.raises(ValueError, match=told):
                SSLAMCLI([*model, *data, f"--model.{name}"], run=False)


@pytest.mark.parametrize("kind", ["FinetuneModule", "DetectionModule"])
def test_what_has_no_effect_on_a_frozen_encoder(kind: str) -> None:
    """U4: layer decay that was asked for is refused, the default's is dropped; so the run's config.yaml says 1."""
    frozen = ["--model", f"sslam_lightning.{kind}", "--model.frozen_encoder=true", "--model.optimizer.lr=0.1"]
    frozen += ["--model.encoder", "{dim: 16, depth: 1, num_heads: 2}"]
    with pytest.raises(ValueError, match=r"^model\.optimizer\.layer_decay has no effect on a frozen encoder: set it to 1"):
        SSLAMCLI([*frozen, "--model.optimizer.layer_decay=0.65"], run=False)
    with pytest.raises(ValueError, match=r"^--config: model\.optimizer\.layer_decay has no effect"):
        SSLAMCLI([*frozen, "--config", "{model: {init_args: {optimizer: {layer_decay: 0.5}}}}"], run=False)
    cli = SSLAMCLI(frozen, run=False)
    assert (cli.config.model.init_args.optimizer.layer_decay, cli.model.optimizer_config.layer_decay) == (1.0, 1.0)
    assert cli.model.optimizer_config.lr == 0.1
    one = SSLAMCLI([*frozen, "--model.optimizer.layer_decay=0.65", "--model.optimizer.layer_decay=1"], run=False)
    assert one.model.optimizer_config.layer_decay == 1.0
    learns = SSLAMCLI([*frozen, "--model.frozen_encoder=false"], run=False)
    assert learns.model.optimizer_config.layer_decay == 0.65


def test_no_part_of_no_checkpoint() -> None:
    """U4: which model of ``init_from`` is taken."""
    words = [*MODEL, "--model.encoder", "{dim: 16, depth: 1, num_heads: 2}", "--model.init_part"]
    with pytest.raises(
        ValueError, match=r"^model\.init_part has no effect without a checkpoint: leave it out, or set model"
    ):
        SSLAMCLI([*words, "teacher"], run=False)
    assert SSLAMCLI([*words, "teacher", "--model.init_from=a.ckpt"], run=False).model.init_part == "teacher"
    assert SSLAMCLI([*words, "student"], run=False).model.init_part == "student"
