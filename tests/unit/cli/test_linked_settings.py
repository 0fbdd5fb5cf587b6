"""U4: what the data module, the run or the rest of the model decides is refused, wherever it is given."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from sslam_lightning.cli.fit.linked_settings import OF_DATA
from sslam_lightning.cli.fit.trainer import SSLAMCLI

MODEL = ["--model", "sslam_lightning.FinetuneModule"]
TINY = [*MODEL, "--model.encoder", "{dim: 16, depth: 1, num_heads: 2}"]
DEFAULTS = {"num_classes": "527", "multi_label": "true", "class_names": "null", "resampler": "kaldi"}


@pytest.mark.parametrize("name", OF_DATA)
@pytest.mark.parametrize(
    "form",
    [
        "--model.{}={}",
        "--model.{} {}",
        "--model.init_args.{}={}",
        "--model.init_args {{{}: {}}}",
        "--model.dict_kwargs.{}={}",
        "--model.dict_kwargs {{{}: {}}}",
        "--config {{model.init_args.{}: {}}}",
        "--config {{model: {{init_args: {{{}: {}}}}}}}",
        "--config {{model: {{dict_kwargs: {{{}: {}}}}}}}",
    ],
)
def test_every_setting_of_the_data_is_refused(name: str, form: str) -> None:
    """U4: also at its default, in whatever form it is typed."""
    words = form.format(name, DEFAULTS[name]).split(" ", 1)
    place = rf"^{'--config: ' if '--config' in form else ''}model\.{name}"
    instead = rf", or set data\.{name}" if name in ("num_classes", "resampler") else ""
    with pytest.raises(ValueError, match=rf"{place} comes from the data: leave it out{instead}$"):
        SSLAMCLI([*MODEL, *words], run=False)


@pytest.mark.parametrize(
    "form", ["--model own.yaml", "--model=own.yaml", "--config all.yaml", "-c all.yaml", "-c=all.yaml"]
)
def test_files_of_the_model_alone(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """U4: settings of a part may stand in a file of their own, next to the file that names it."""
    (tmp_path / "own.yaml").write_text("{class_path: sslam_lightning.FinetuneModule, init_args: {num_classes: 527}}\n")
    (tmp_path / "all.yaml").write_text("model: own.yaml\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ValueError, match=rf"^{'all.yaml: ' if 'all' in form else ''}model\.num_classes comes from the data"
    ):
        SSLAMCLI(form.split(), run=False)


def test_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("model: {class_path: sslam_lightning.FinetuneModule, init_args: {num_classes: 527}}\n")
    (tmp_path / "b.yaml").write_text("model: {init_args: {label_smoothing: 0.1}}\n")
    words = [word for name in "ab" for word in ("--config", str(tmp_path / f"{name}.yaml"))]
    with pytest.raises(ValueError, match=f"^{re.escape(words[1])}: model.num_classes comes from the data"):
        SSLAMCLI(["fit", *words])
    with pytest.raises(ValueError, match=r"^model\.num_classes comes from the data"):  # the last word
        SSLAMCLI(["fit", *words, "--model.num_classes=3"])


@pytest.mark.parametrize("part", ["model", "data"])
@pytest.mark.parametrize("others", [[], ["--seed_everything=3"], ["--seed_everything=4"]])
def test_there_is_one_seed(part: str, others: list[str]) -> None:
    """U4: a seed of its own would be overwritten too."""
    with pytest.raises(ValueError, match=rf"^{part}\.seed comes from the run: leave it out, or set seed_everything$"):
        SSLAMCLI([*MODEL, *others, f"--{part}.seed=3"], run=False)


def test_what_a_run_has_saved_is_taken(tmp_path: Path) -> None:
    """The whole configuration, defaults included, holds nothing that is refused."""
    words = [
        *TINY,
        "--model.frozen_encoder=true",
        "--data.num_classes=3",
        "--data.resampler",
        "soxr",
        "--seed_everything=5",
    ]
    cli = SSLAMCLI(words, run=False)
    path = tmp_path / "config.yaml"
    cli.parser.save(cli.config, path, skip_unset=False, multifile=False)
    assert yaml.safe_load(path.read_text())["model"]["init_args"]["optimizer"]["layer_decay"] == 1.0
    again = SSLAMCLI(["--config", str(path)], run=False)
    assert (again.model.num_classes, again.model.seed, again.datamodule.seed) == (3, 5, 5)


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
    words = [*TINY, "--model.init_encoder"]
    with pytest.raises(
        ValueError, match=r"^model\.init_encoder has no effect without a checkpoint: leave it out, or set model"
    ):
        SSLAMCLI([*words, "teacher"], run=False)
    assert SSLAMCLI([*words, "teacher", "--model.init_from=a.ckpt"], run=False).model.init_encoder == "teacher"
    assert SSLAMCLI([*words, "student"], run=False).model.init_encoder == "student"


def test_null_inside_a_class_is_null() -> None:
    """U4: where a setting may be null, at any depth."""
    words = ["--model.optimizer.max_steps=null", "--model.mixup=null", "--trainer.max_epochs=null"]
    assert SSLAMCLI([*TINY, *words], run=False).model.optimizer_config.max_steps is None
