"""A recipe that is called published does nothing that the public one does not."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sslam_lightning.cli.configs import config_folder
from sslam_lightning.training.callbacks import GuardConfig

PRETRAIN = config_folder() / "pretrain"
PUBLISHED = sorted(path for path in PRETRAIN.glob("*.yaml") if path.stem.startswith(("eat_", "sslam_base", "data2vec2_")))
NEVER = GuardConfig(0.0, 0.0, 0.0)
FAIRSEQ = GuardConfig(min_prediction_variance=0.01, min_target_variance=0.1, min_token_deviation=0.0)  # its defaults
BOUNDS = {"data2vec2_text_base": FAIRSEQ, "data2vec2_waveform_base": FAIRSEQ}  # whose recipes name none; the others name 0


@pytest.mark.parametrize("recipe", [path for path in PUBLISHED if "corrected" not in path.stem], ids=lambda path: path.stem)
def test_a_collapse_stops_a_run_where_it_stops_the_public_one(recipe: Path) -> None:
    """D8."""
    settings = yaml.safe_load(recipe.read_text())["model"]["init_args"]
    assert GuardConfig(**settings["guard"]) == BOUNDS.get(recipe.stem, NEVER)


@pytest.mark.parametrize("recipe", [path for path in PUBLISHED if "corrected" in path.stem], ids=lambda path: path.stem)
def test_a_corrected_recipe_says_that_a_collapse_stops_it(recipe: Path) -> None:
    """D8."""
    settings = yaml.safe_load(recipe.read_text())["model"]["init_args"]
    assert GuardConfig(**settings["guard"]) == GuardConfig()
    assert "(+) a run that collapses stops" in recipe.read_text()


def test_some_recipes_were_found() -> None:
    assert len(PUBLISHED) >= 9
