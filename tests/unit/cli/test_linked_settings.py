"""U4: what the data module decides is refused under ``model``, wherever it is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from sslam_lightning.cli.fit.trainer import SSLAMCLI

MODEL = ["--model", "sslam_lightning.FinetuneModule"]


@pytest.mark.parametrize("form", ["--model.{}", "--model.init_args {{{}}}", "--config {{model.init_args.{}}}"])
@pytest.mark.parametrize("setting", ["num_classes: 7", "multi_label: false", "class_names: [a,b]", "resampler: soxr"])
def test_every_setting_of_the_data_is_refused(setting: str, form: str) -> None:
    name = setting.split(":")[0]
    words = form.format(setting.replace(": ", "=") if form == "--model.{}" else setting).split(" ", 1)
    with pytest.raises(ValueError, match=rf"^model\.{name} comes from the data: leave it out, or set it for the data"):
        SSLAMCLI([*MODEL, *words], run=False)


def test_in_a_file_too(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("model: {class_path: sslam_lightning.FinetuneModule, init_args: {num_classes: 7}}\n")
    with pytest.raises(ValueError, match=r"^model\.num_classes comes from the data"):
        SSLAMCLI(["--config", str(path)], run=False)


@pytest.mark.parametrize("kind", ["FinetuneModule", "DetectionModule"])
def test_what_has_no_effect_on_a_frozen_encoder(kind: str) -> None:
    """U4: layer decay that was asked for is refused, the default's is dropped; so the run's config.yaml says 1."""
    frozen = ["--model", f"sslam_lightning.{kind}", "--model.frozen_encoder=true", "--model.optimizer.lr=0.1"]
    frozen += ["--model.encoder", "{dim: 16, depth: 1, num_heads: 2}"]
    with pytest.raises(ValueError, match=r"^model\.optimizer\.layer_decay has no effect on a frozen encoder: set it to 1"):
        SSLAMCLI([*frozen, "--model.optimizer.layer_decay=0.6"], run=False)
    with pytest.raises(ValueError, match=r"^model\.optimizer\.layer_decay has no effect"):
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
    words = [*MODEL, "--model.encoder", "{dim: 16, depth: 1, num_heads: 2}", "--model.init_encoder"]
    with pytest.raises(
        ValueError, match=r"^model\.init_encoder has no effect without a checkpoint: leave it out, or set model"
    ):
        SSLAMCLI([*words, "teacher"], run=False)
    assert SSLAMCLI([*words, "teacher", "--model.init_from=a.ckpt"], run=False).model.init_encoder == "teacher"
    assert SSLAMCLI([*words, "student"], run=False).model.init_encoder == "student"
