from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from sslam_lightning.checkpoints.settings import read_choice, read_dataclass
from sslam_lightning.features import LogMels
from sslam_lightning.models import (
    ConvDecoderConfig,
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
from sslam_lightning.models.sizes import MODELS, list_models, named_model

CONFIGS = Path(__file__).parents[3] / "configs"
OTHERS = ("data2vec1_", "data2vec2_image", "data2vec2_text")  # of transformers, of images, of text
SOUND = [path for path in sorted(CONFIGS.glob("pretrain/*.yaml")) if not path.stem.startswith(OTHERS)]


def settings(*path: str) -> dict[str, Any]:
    return yaml.safe_load(CONFIGS.joinpath(*path).read_text())["model"]["init_args"]


def read(written: dict[str, Any]) -> tuple[Any, ...]:
    """Encoder, log-mels and decoder of a recipe."""
    encoder = read_dataclass(EncoderConfig, written["encoder"], "encoder")
    features = None if written["features"] is None else read_dataclass(LogMels, written["features"], "features")
    if "class_path" in written["decoder"]:
        return encoder, features, read_choice(DecoderConfig, written["decoder"], "decoder")
    return encoder, features, read_dataclass(ConvDecoderConfig, written["decoder"], "decoder")


@pytest.mark.parametrize("size", ["tiny", "small"])
def test_small_models_are_those_of_the_overlays(size: str) -> None:
    recipe, overlay = settings("pretrain", "eat_base.yaml"), settings("overlays", "sizes", f"{size}.yaml")
    assert read({**recipe, **overlay}) == MODELS[f"eat_{size}"]


@pytest.mark.parametrize("path", SOUND, ids=lambda path: path.stem)
def test_every_recipe_of_sound_has_its_model(path: Path) -> None:
    name = path.stem.removesuffix("_random").removesuffix("_chunk")
    assert read(settings("pretrain", path.name)) == MODELS[name]


def test_every_model_has_a_recipe() -> None:
    names = {path.stem.removesuffix("_random").removesuffix("_chunk") for path in SOUND}
    assert set(list_models()) == names | {"eat_tiny", "eat_small"}
    assert list_models() == sorted(MODELS)


def test_base_is_the_published_one() -> None:
    encoder, features, decoder = MODELS["eat_base"]
    assert (encoder.dim, encoder.depth, encoder.num_heads, encoder.patch_size, encoder.num_mels) == (768, 12, 12, 16, 128)
    built = decoder.build(encoder.dim).config
    assert (built.dim, built.depth, built.kernel_size, built.groups) == (768, 6, 3, 16)
    assert (features.num_frames, features.mean, features.std) == (1024, -4.268, 4.569)


def test_a_misspelt_model_is_suggested() -> None:
    with pytest.raises(ValueError, match=r"^there is no model sslam_bse, did you mean sslam_base\?$"):
        named_model("sslam_bse")
    with pytest.raises(ValueError, match=r"^there is no model xyz, only bat_base, .*sslam_on_bat_base$"):
        named_model("xyz")


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
        ConvDecoderConfig(**wrong)


def test_heads_must_share_out_the_width() -> None:
    with pytest.raises(ValueError, match=r"heads"):
        Encoder(EncoderConfig(dim=16, depth=1, num_heads=3))
