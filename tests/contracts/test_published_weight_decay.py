"""Published recipes of fairseq's models decay every parameter: its optimizer overlooks what the models mark as exempt."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from sslam_lightning.models import ConvDecoder, ConvDecoderConfig, Encoder, EncoderConfig
from sslam_lightning.runtime.configs import config_folder
from sslam_lightning.training.run.optimizers import OptimizerConfig, build_optimizer

FOLDER = config_folder()
EAT = {"eat_base": "stage1", "eat_large": "stage1", "sslam_base": "stage2"}  # recipe -> overlay
DATA2VEC2 = sorted(path.stem for path in (FOLDER / "pretrain").glob("data2vec2_*.yaml"))
PUBLISHED = {**dict.fromkeys(DATA2VEC2), **EAT}


def _optimizer(path: str) -> dict[str, Any]:
    text = (FOLDER / f"{path}.yaml").read_text()
    settings = yaml.safe_load(text)["model"]["init_args"]["optimizer"]
    if settings["decay_all"]:  # the file says so
        assert [line for line in text.splitlines() if "decay_all: true" in line and "#" in line]
    return settings


@pytest.mark.parametrize(("recipe", "overlay"), PUBLISHED.items())
def test_biases_norms_tokens_and_scales_decay_as_published(recipe: str, overlay: str | None) -> None:
    """D7."""
    settings = _optimizer(f"pretrain/{recipe}")
    if overlay:
        settings |= _optimizer(f"overlays/as_published/{overlay}")
    encoder = Encoder(EncoderConfig(dim=16, depth=1, num_heads=2, alibi="learned"))
    decoder = ConvDecoder(ConvDecoderConfig(dim=16, depth=1, groups=4), 16)
    optimizer = build_optimizer([encoder, decoder], OptimizerConfig(**settings), 1, fused=False)
    assert {group["weight_decay"] for group in optimizer.param_groups} == {settings["weight_decay"]}
    assert settings["weight_decay"] > 0


def test_some_recipes_were_found() -> None:
    assert len(DATA2VEC2) >= 3
