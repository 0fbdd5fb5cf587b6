"""MAE-AST's recipes, for pre-training and fine-tuning, make the log-mels that its public code makes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from sslam_lightning.features import MAE_AST_LOG_MELS, LogMels
from sslam_lightning.runtime.configs import config_folder

RECIPES = sorted(config_folder().glob("*/mae_ast_*.yaml"))
PRETRAIN = [path for path in RECIPES if path.parent.name == "pretrain"]
_FRAMES_OF_FIVE_SECONDS = 498


def _settings(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())["model"]["init_args"]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_log_mels_are_those_of_the_public_code(path: Path) -> None:
    """D1: a pre-training recipe pads nothing, a fine-tuning recipe cuts ESC-50's clips to whole patches."""
    settings = _settings(path)
    features, front_end = LogMels(**settings["features"]), settings["encoder"]["front_end"]["init_args"]
    expected = replace(MAE_AST_LOG_MELS, patch_frames=front_end["token_frames"])
    if path in PRETRAIN:
        assert features == expected
        assert settings["crop_to_shortest"]
        return
    whole = _FRAMES_OF_FIVE_SECONDS // expected.patch_frames * expected.patch_frames
    assert replace(features, partial_patch="drop") == replace(expected, num_frames=whole)


@pytest.mark.parametrize("path", PRETRAIN, ids=lambda path: path.stem)
def test_everything_decays_as_in_the_public_code(path: Path) -> None:
    """D7."""
    assert _settings(path)["optimizer"]["decay_all"] is True


def test_some_recipes_were_found() -> None:
    assert len(PRETRAIN) == 4
    assert len(RECIPES) == 6
