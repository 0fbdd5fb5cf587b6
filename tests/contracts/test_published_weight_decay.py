"""Published recipes of fairseq's models decay every parameter: its optimizer overlooks what the models mark as exempt."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sslam_lightning.cli.configs import config_folder
from sslam_lightning.models import ConvDecoder, DecoderConfig, Encoder, EncoderConfig
from sslam_lightning.training.optimizers import OptimizerConfig, build_optimizer

_NAMES = ("data2vec2_*.yaml", "eat_base.yaml", "eat_large.yaml", "sslam_base.yaml")
PUBLISHED = sorted(path for name in _NAMES for path in (config_folder() / "pretrain").glob(name))


@pytest.mark.parametrize("recipe", PUBLISHED, ids=lambda path: path.stem)
def test_biases_norms_tokens_and_scales_decay_as_published(recipe: Path) -> None:
    """D7."""
    settings = yaml.safe_load(recipe.read_text())["model"]["init_args"]["optimizer"]
    encoder = Encoder(EncoderConfig(dim=16, depth=1, num_heads=2, alibi="learned"))
    decoder = ConvDecoder(DecoderConfig(dim=16, depth=1, groups=4), 16)
    optimizer = build_optimizer([encoder, decoder], OptimizerConfig(**settings), 1, fused=False)
    assert {group["weight_decay"] for group in optimizer.param_groups} == {settings["weight_decay"]}
    assert settings["weight_decay"] > 0
    (line,) = (line for line in recipe.read_text().splitlines() if "decay_all: true" in line)
    assert "#" in line  # the recipe says so


def test_some_recipes_were_found() -> None:
    assert len(PUBLISHED) >= 6
