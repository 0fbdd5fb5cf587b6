"""Sizes and switches of EAT, SSLAM and data2vec 2.0 models, from the shapes of their weights and from fairseq's words."""

from __future__ import annotations

import re
from typing import Any, Literal

from sslam_lightning.checkpoints.formats.eat import columns_of
from sslam_lightning.checkpoints.messages import naming, printable
from sslam_lightning.checkpoints.pickle_stubs import section
from sslam_lightning.checkpoints.settings import as_kind
from sslam_lightning.checkpoints.state_dict import count_stack
from sslam_lightning.checkpoints.weights import State
from sslam_lightning.models import (
    ConvDecoderConfig,
    ConvPositionsConfig,
    EncoderConfig,
    FrontEndConfig,
    ImageConfig,
    TextConfig,
    WaveformConfig,
)
from sslam_lightning.models.front_ends.waveform import Layer

Modality = Literal["image", "audio", "text"]

_OURS = "an EAT, SSLAM or data2vec 2.0 checkpoint"
NOT_OURS = f"not {_OURS}"
PADDING_TOKEN = 1  # of fairseq's dictionaries
NUM_MELS = 128  # of every model of the public code, whose configuration does not say it
PATCH_STRIDE = 16  # of the public patch embedding for spectrograms, whatever its patch_size
_CONVOLUTIONS = r"\[\((\d+),(\d+),(\d+)\)\](?:\*(\d{1,3}))?"


def encoder_config(cfg: Any, modality: Modality, encoder: State, positions: State, source: str) -> EncoderConfig:
    """The encoder: what shapes tell is read from them, the rest from the configuration."""
    with naming(source, _OURS):
        hidden_dim, dim = encoder["blocks.0.mlp.fc1.weight"].shape
        front_end = _front_end(cfg, modality, encoder)
        table = positions.get("positions") if front_end is None else None  # an image's may be of any height
        if table is not None:
            columns_of(table, NUM_MELS // PATCH_STRIDE, dim, "its table of positions")
        relative = encoder.get("conv_positions.convs.0.weight")
        before = bool(section(cfg, "layer_norm_first"))
        return EncoderConfig(
            dim=dim,
            depth=count_stack(encoder, "blocks"),
            num_heads=as_kind(section(cfg, "num_heads"), int, "cfg.model.num_heads"),
            mlp_ratio=hidden_dim / dim,
            patch_size=PATCH_STRIDE,
            num_mels=NUM_MELS,
            norm="pre_data2vec2" if before else "post",
            norm_eps=as_kind(section(cfg, "norm_eps") or 1e-6, float, "cfg.model.norm_eps"),
            prenet_depth=count_stack(encoder, "prenet"),
            front_end=front_end,
            cls_token="cls_token" in encoder,
            zero_cls_token=section(cfg, "modalities", modality, "init_extra_token_zero") is True,
            input_norm="input_norm.weight" in encoder or before,
            conv_positions=None if relative is None else _conv_positions(encoder, relative.shape),
            alibi=_alibi(cfg, modality, encoder),
        )


def decoder_config(cfg: Any, modality: Modality, decoder: State, source: str) -> ConvDecoderConfig:
    """The decoder of the modality that the model was trained on; the file describes those of others as well."""

    def setting(kind: type, default: Any, *path: str) -> Any:
        found = section(cfg, "modalities", modality, *path)
        return as_kind(default if found is None else found, kind, ".".join(("cfg.model.modalities", modality, *path)))

    with naming(source, "a checkpoint with a decoder of EAT, SSLAM or data2vec 2.0"):
        dim, per_group, kernel_size, *rest = decoder["convs.0.weight"].shape
        two_layers = "proj.2.weight" in decoder
        encoder_dim = decoder["proj.2.weight" if two_layers else "proj.weight"].shape[0]
        return ConvDecoderConfig(
            dim=dim,
            depth=count_stack(decoder, "convs"),
            kernel_size=kernel_size,
            groups=encoder_dim // per_group,
            noise_std=setting(float, 0.01, "mask_noise_std"),
            dimensions=2 if rest else 1,
            residual=setting(bool, True, "decoder", "decoder_residual"),
            projection_depth=2 if two_layers else 1,
            input_dropout=setting(float, 0.0, "decoder", "input_dropout"),
        )


def _front_end(cfg: Any, modality: Modality, encoder: State) -> FrontEndConfig | None:
    """None is the spectrogram's: an image of one channel."""
    own = section(cfg, "modalities", modality)
    if modality == "text":
        # The first place is that of the padding token, behind which places are counted.
        vocabulary, num_places = len(encoder["front_end.tokens.weight"]), len(encoder["front_end.places.weight"])
        dropout = section(own, "dropout")
        dropout = as_kind(0.1 if dropout is None else dropout, float, "cfg.model.modalities.text.dropout")
        return TextConfig(vocabulary, num_places - PADDING_TOKEN - 1, PADDING_TOKEN, dropout)
    if modality == "audio":
        where, spec = "cfg.model.modalities.audio.feature_encoder_spec", section(own, "feature_encoder_spec")
        layers = WaveformConfig().layers if spec is None else conv_layers(as_kind(spec, str, where), where)
        convs = [encoder[f"front_end.convs.{number}.weight"] for number in range(count_stack(encoder, "front_end.convs"))]
        if [(conv.shape[0], conv.shape[-1]) for conv in convs] != [(channels, kernel) for channels, kernel, _ in layers]:
            raise ValueError(f"{where} is not that of the file's {len(convs)} convolutions")
        return WaveformConfig(layers)
    _, in_channels, patch_size, _ = encoder["front_end.proj.weight"].shape
    frames = section(own, "target_length")
    if (in_channels == 1 or frames is not None) and patch_size != PATCH_STRIDE:
        raise ValueError(
            f"cfg.model.modalities.image.patch_size is {patch_size}, but the public code cuts patches at a stride of "
            f"{PATCH_STRIDE}: only {PATCH_STRIDE} is computed here"
        )
    if in_channels == 1 and "alibi.scale" in encoder and frames != NUM_MELS:
        raise ValueError(
            f"cfg.model.modalities.image.use_alibi_encoder is True with a target_length of {frames} frames, but the public "
            f"code's distances are those of a square field: only {NUM_MELS} frames are computed here"
        )
    return None if in_channels == 1 else ImageConfig(patch_size, in_channels)


def conv_layers(spec: str, where: str) -> tuple[Layer, ...]:
    """Channels, kernel and stride of every convolution. fairseq writes Python, ``[(512, 10, 5)] + [(512, 3, 2)] * 4``,
    which is read here, not run."""
    text = "".join(spec[:1000].split())
    if not re.fullmatch(rf"{_CONVOLUTIONS}(\+{_CONVOLUTIONS})*", text):
        raise ValueError(f"{where} is not a sum of [(channels, kernel, stride)] * times: {printable(spec[:200])!r}")
    return tuple(
        (int(channels), int(kernel), int(stride))
        for channels, kernel, stride, times in re.findall(_CONVOLUTIONS, text)
        for _ in range(int(times or 1))
    )


def _conv_positions(encoder: State, shape: tuple[int, ...]) -> ConvPositionsConfig:
    dim, per_group, kernel = shape
    depth = count_stack(encoder, "conv_positions.convs")
    return ConvPositionsConfig(depth, kernel * depth, dim // per_group)


def _alibi(cfg: Any, modality: Modality, encoder: State) -> Literal["fixed", "learned"] | None:
    if "alibi.scale" not in encoder:
        return None
    return "learned" if section(cfg, "modalities", modality, "learned_alibi_scale") is True else "fixed"
