"""A recipe as published does nothing that the public one does not; the recipe alone stops when training collapses."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from sslam_lightning.runtime.configs import config_folder
from sslam_lightning.training.callbacks import CollapseConfig

FOLDER = config_folder()
PUBLISHED = {"eat_base": "stage1", "eat_large": "stage1", "sslam_base": "stage2"}  # recipe -> overlay
NEVER = CollapseConfig(0.0, 0.0, 0.0)
FAIRSEQ = CollapseConfig(min_pred_std=0.01, min_target_std=0.1, min_token_std=0.0)  # its defaults
DATA2VEC2 = {"data2vec2_text_base": FAIRSEQ, "data2vec2_waveform_base": FAIRSEQ, "data2vec2_image_base": NEVER}
FINETUNED = ("audioset_20k", "audioset_2m", "esc50", "speech_commands_v2", "spass")


def _model(name: str) -> dict[str, Any]:
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text())["model"]["init_args"]


@pytest.mark.parametrize(("recipe", "overlay"), PUBLISHED.items())
def test_a_collapse_stops_the_recipe_but_not_the_published_run(recipe: str, overlay: str) -> None:
    """D8."""
    assert CollapseConfig(**_model(f"pretrain/{recipe}")["collapse"]) == CollapseConfig()
    assert CollapseConfig(**_model(f"overlays/as_published/{overlay}")["collapse"]) == NEVER


@pytest.mark.parametrize(("recipe", "bounds"), DATA2VEC2.items())
def test_a_collapse_stops_data2vec_2_where_it_stops_the_public_run(recipe: str, bounds: CollapseConfig) -> None:
    """D8."""
    assert CollapseConfig(**_model(f"pretrain/{recipe}")["collapse"]) == bounds


@pytest.mark.parametrize(
    ("overlay", "recipes"),
    [
        ("stage1", ["pretrain/eat_base", "pretrain/eat_large"]),
        ("stage2", ["pretrain/sslam_base"]),
        ("finetune", [f"finetune/{name}" for name in FINETUNED]),
        ("mixup", [f"finetune/{name}" for name in FINETUNED if name != "esc50"]),
    ],
)
def test_an_overlay_changes_every_setting_that_it_names(overlay: str, recipes: list[str]) -> None:
    accidents = _leaves(yaml.safe_load((FOLDER / f"overlays/as_published/{overlay}.yaml").read_text()))
    assert accidents
    for recipe in recipes:
        settings = dict(_leaves(yaml.safe_load((FOLDER / f"{recipe}.yaml").read_text())))
        assert [name for name, value in accidents if settings.get(name) == value] == []


def _leaves(settings: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    leaves = []
    for name, value in settings.items():
        leaves += _leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else [(prefix + name, value)]
    return leaves
