from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from sslam_lightning.models import (
    DecoderConfig,
    Encoder,
    EncoderConfig,
    ImageConfig,
    SpectrogramTokensConfig,
    TextConfig,
    TransformerDecoder,
    TransformerDecoderConfig,
    WaveformConfig,
)
from sslam_lightning.models.sizes import SIZES

CONFIGS = Path(__file__).parents[3] / "configs"


def settings(*path: str) -> dict[str, Any]:
    return yaml.safe_load(CONFIGS.joinpath(*path).read_text())["model"]["init_args"]


@pytest.mark.parametrize("size", ["tiny", "small"])
def test_named_sizes_are_those_of_the_overlays(size: str) -> None:
    encoder, decoder = SIZES[size]
    assert EncoderConfig(**settings("overlays", "sizes", f"{size}.yaml")["encoder"]) == encoder
    pretraining = settings("overlays", "sizes", f"{size}_pretrain.yaml")
    assert DecoderConfig(**pretraining["decoder"]) == decoder
    assert pretraining["targets"]["top_k_layers"] == encoder.depth


@pytest.mark.parametrize(
    ("recipe", "size"),
    [
        ("eat_base", "base"),
        ("sslam_base", "base"),
        ("eat_large", "large"),
    ],
)
def test_named_sizes_are_those_of_the_recipes(recipe: str, size: str) -> None:
    written = settings("pretrain", f"{recipe}.yaml")
    assert (EncoderConfig(**written["encoder"]), DecoderConfig(**written["decoder"])) == SIZES[size]


def test_base_is_the_published_one() -> None:
    encoder, decoder = SIZES["base"]
    assert (encoder.dim, encoder.depth, encoder.num_heads, encoder.patch_size, encoder.num_mels) == (768, 12, 12, 16, 128)
    assert (decoder.dim, decoder.depth, decoder.kernel_size, decoder.groups) == (768, 6, 3, 16)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"depth": 0}, r"encoder: depth must be at least 1, got 0"),
        ({"in_channels": 3}, r"a spectrogram has one channel, got in_channels 3"),
        ({"num_mels": 100}, r"num_mels must be a multiple of patch_size, got 100 mels and 16"),
        ({"dim": 18}, r"dim must be a multiple of 4 .*, got 18"),
    ],
)
def test_impossible_encoders(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Encoder(EncoderConfig(**wrong))


def test_only_positions_in_a_field_ask_for_a_width() -> None:
    """D1: MAE-AST counts its tokens along a line, data2vec's waveforms and text have positions of their own."""
    for front_end in (SpectrogramTokensConfig(), WaveformConfig(((8, 10, 5),)), TextConfig(20, 9)):
        sizes = {"dim": 30, "depth": 1, "num_heads": 3, "front_end": front_end}
        assert Encoder(EncoderConfig(**sizes)).dim == 30
    with pytest.raises(ValueError, match=r"dim must be a multiple of 4 .*, got 30"):
        Encoder(EncoderConfig(**{**sizes, "front_end": ImageConfig()}))
    assert TransformerDecoder(TransformerDecoderConfig(30, 1, 3), 30).blocks[0].attn.proj.in_features == 30


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"depth": 0}, r"decoder: depth must be at least 1, got 0"),
        ({"kernel_size": 0}, r"decoder: kernel_size must be at least 1, got 0"),
        ({"dim": 100}, r"the decoder's dim must be a multiple of its groups, got 100 and 16"),
        ({"groups": 0}, r"decoder: groups must be at least 1, got 0"),
        ({"groups": -16}, r"decoder: groups must be at least 1, got -16"),
        ({"dim": 0}, r"decoder: dim must be at least 1, got 0"),
    ],
)
def test_impossible_decoders(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DecoderConfig(**wrong)


def test_heads_must_share_out_the_width() -> None:
    with pytest.raises(ValueError, match=r"heads"):
        Encoder(EncoderConfig(dim=16, depth=1, num_heads=3))
