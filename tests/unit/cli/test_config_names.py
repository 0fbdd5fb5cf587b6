from __future__ import annotations

from pathlib import Path

import pytest

from sslam_lightning.cli.fit.settings import SettingsCLI
from sslam_lightning.runtime import configs
from sslam_lightning.runtime.configs import config_folder, find_config, shipped_configs

NAMES = ["pretrain/eat_base", "overlays/sizes/tiny", "runs/esc10/stage1"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", ["{}", "{}.yaml", "configs/{}", "configs/{}.yaml", "./configs/{}.yaml"])
def test_found_by_name_from_any_folder(name: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config(form.format(name)) == str(config_folder() / f"{name}.yaml")


def test_a_file_that_is_there_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pretrain").mkdir()
    (tmp_path / "pretrain" / "eat_base").write_text("{}")
    assert find_config("pretrain/eat_base") == "pretrain/eat_base"
    assert find_config("pretrain/eat_base.yaml") == str(config_folder() / "pretrain/eat_base.yaml")
    assert find_config("{trainer: {max_steps: 3}}") == "{trainer: {max_steps: 3}}"


def test_a_folder_may_be_left_out() -> None:
    assert find_config("esc50", "downstream") == str(config_folder() / "downstream/esc50.yaml")
    assert find_config("downstream/esc50", "downstream") == str(config_folder() / "downstream/esc50.yaml")
    assert find_config("esc50") == "esc50"


def test_in_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheel has the recipes inside the package, and nothing beside it."""
    package = tmp_path / "site-packages" / "sslam_lightning"
    package.mkdir(parents=True)
    (package / "configs").symlink_to(config_folder())
    monkeypatch.setattr(configs, "_PACKAGE", package)
    assert find_config("pretrain/eat_base") == str(package / "configs/pretrain/eat_base.yaml")
    assert {"overlays/linear", "downstream/esc50"} < shipped_configs().keys()


def test_the_command_line_takes_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--config", "pretrain/sslam_base", "-c", "configs/overlays/sizes/tiny.yaml", "--config=overlays/trainer/cpu"]
    settings = SettingsCLI(words).settings()
    assert (settings["model"]["init_args"]["encoder"]["dim"], settings["trainer"]["accelerator"]) == (96, "cpu")
