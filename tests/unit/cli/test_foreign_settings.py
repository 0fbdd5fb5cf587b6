"""Settings of a checkpoint choose among this project's classes; they bring no code."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from sslam_lightning.__main__ import main
from sslam_lightning.cli.fit.untrusted_config import refuse_foreign_classes
from sslam_lightning.runtime.configs import config_folder


def write(path: Path, settings: dict[str, Any]) -> Path:
    run = {"pytorch-lightning_version": "2.6.0", "epoch": 0, "global_step": 1, "loops": {}}
    torch.save({**run, "state_dict": {}, "hyper_parameters": settings}, path)
    return path


@pytest.mark.parametrize(
    "settings",
    [
        {"_class_path": "evil_module.Thing"},
        {"encoder": {"front_end": {"class_path": "evil_module.Thing"}}},
        {"encoder": {"front_end": "evil_module.Thing"}},
        {"extra_loss": [{"class_path": "evil_module.Thing", "init_args": {}}]},
    ],
)
@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_no_module_is_imported(tmp_path, monkeypatch, capsys, command, settings):
    (tmp_path / "evil_module.py").write_text("open('mark', 'w').close()\nclass Thing: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "evil.ckpt", settings)
    recipe = config_folder() / "finetune/esc50.yaml"
    with pytest.raises(SystemExit) as left:
        main([command, "--config", str(recipe), "--model.init_from=null", f"--ckpt_path={path}"])
    assert left.value.code == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith(
        f"sslam: error: the settings in {path} name 'evil_module.Thing', which is no class of this project"
    )
    assert not (tmp_path / "mark").exists()
    assert "evil_module" not in sys.modules


@pytest.mark.parametrize(
    "text",
    ['{"class_path": "evil.Thing"}', "class_path: evil.Thing", "'evil.Thing'", "settings.yaml", "../settings", "words"],
)
def test_strings_that_the_parser_would_read_as_more(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words").touch()
    path = write(tmp_path / "evil.ckpt", {"encoder": {"front_end": text}, "pooling": "cls"})
    with pytest.raises(ValueError, match="which is no class of this project"):
        refuse_foreign_classes(path, {})


def test_what_the_user_names_and_what_is_no_class_passes(tmp_path):
    settings = {
        "_instantiator": "lightning.pytorch.cli.instantiate_module",
        "encoder": {"front_end": {"class_path": "sslam_lightning.models.WaveformConfig"}, "dim": 96},
        "masking": {"class_path": "my_masks.Checker"},
        "init_from": "model.safetensors",
        "class_names": ["dog.bark"],
        "hugging_face": {"model": "folder.of_mine", "token_module": "embeddings.tokens", "settings": {"act": "gelu"}},
    }
    path = write(tmp_path / "own.ckpt", settings)
    refuse_foreign_classes(path, {"model": {"init_args": {"masking": {"class_path": "my_masks.Checker"}}}})
    with pytest.raises(ValueError, match=r"name 'my_masks\.Checker', which is no class of this project; if it is yours"):
        refuse_foreign_classes(path, {"model": {}})
    with pytest.raises(ValueError, match="must be a table of settings, got list"):
        refuse_foreign_classes(write(tmp_path / "list.ckpt", ["a"]), {})  # type: ignore[arg-type]
