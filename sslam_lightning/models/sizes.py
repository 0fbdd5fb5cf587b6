"""The named models: encoder, log-mels and decoder of every recipe of sound in ``configs/pretrain``, and smaller ones."""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches
from typing import NamedTuple

from sslam_lightning.features import MAE_AST_LOG_MELS, LogMels
from sslam_lightning.models.config import ConvPositionsConfig, EncoderConfig
from sslam_lightning.models.decoders.base import DecoderConfig
from sslam_lightning.models.decoders.conv import ConvDecoderConfig
from sslam_lightning.models.decoders.transformer import TransformerDecoderConfig
from sslam_lightning.models.front_ends.spectrogram_tokens import SpectrogramTokensConfig
from sslam_lightning.models.front_ends.waveform import WaveformConfig


class NamedModel(NamedTuple):
    """What a name stands for; ``features`` is None for models that read waveforms."""

    encoder: EncoderConfig
    features: LogMels | None
    decoder: DecoderConfig


def _mae_ast(token_frames: int, token_mels: int) -> NamedModel:
    encoder = EncoderConfig(
        norm_eps=1e-5,
        cls_token=False,
        dropout=0.1,
        attention_dropout=0.1,
        input_dropout=0.1,
        layer_drop=0.05,
        front_end=SpectrogramTokensConfig(token_frames, token_mels, dropout=0.1),
    )
    decoder = TransformerDecoderConfig(depth=2, num_heads=12, positions="sinusoidal", dropout=0.1, attention_dropout=0.1)
    return NamedModel(encoder, replace(MAE_AST_LOG_MELS, patch_frames=token_frames), decoder)


_EAT_BASE = NamedModel(EncoderConfig(), LogMels(), ConvDecoderConfig())
_BAT_BASE = NamedModel(
    EncoderConfig(gated_attention=True, max_time_patches=64, weight_init="xavier"),
    LogMels(kind="decibel", extremes="padded_row"),
    TransformerDecoderConfig(
        depth=6,
        num_heads=12,
        norm_eps=1e-6,
        input_norm=False,
        positions="learned",
        max_tokens=512,
        gated_attention=True,
        projection_bias=False,
        weight_init="xavier",
        output_projection=True,
    ),
)

MODELS: dict[str, NamedModel] = {
    "bat_base": _BAT_BASE,
    "data2vec2_waveform_base": NamedModel(
        EncoderConfig(
            norm_eps=1e-5,
            cls_token=False,
            conv_positions=ConvPositionsConfig(),
            alibi="learned",
            dropout=0.1,
            attention_dropout=0.1,
            post_mlp_dropout=0.1,
            input_dropout=0.1,
            layer_drop=0.05,
            front_end=WaveformConfig(normalize=True),
        ),
        None,
        ConvDecoderConfig(dimensions=1, dim=384, depth=4, kernel_size=7, input_dropout=0.1),
    ),
    "eat_base": _EAT_BASE,
    "eat_large": NamedModel(
        EncoderConfig(dim=1024, depth=24, num_heads=16), LogMels(), ConvDecoderConfig(depth=3, kernel_size=5)
    ),
    "eat_small": NamedModel(
        EncoderConfig(dim=192, depth=6, num_heads=6),
        LogMels(num_frames=512, mean=-6.627, std=5.359),
        ConvDecoderConfig(),
    ),
    "eat_tiny": NamedModel(EncoderConfig(dim=96, depth=4, num_heads=4), LogMels(num_frames=112), ConvDecoderConfig()),
    "mae_ast_frame": _mae_ast(token_frames=2, token_mels=128),
    "mae_ast_patch": _mae_ast(token_frames=16, token_mels=16),
    "sslam_base": _EAT_BASE,
    "sslam_on_bat_base": _BAT_BASE,
}


def list_models() -> list[str]:
    """The names that :func:`sslam_lightning.create_model` takes."""
    return sorted(MODELS)


def named_model(name: str) -> NamedModel:
    """The model of this name.

    Raises:
        ValueError: there is none; a similar name is suggested.
    """
    if name not in MODELS:
        near = get_close_matches(name, MODELS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"only {', '.join(list_models())}"
        raise ValueError(f"there is no model {name}, {hint}")
    return MODELS[name]
