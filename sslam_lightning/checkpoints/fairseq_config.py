"""Sizes and switches of EAT, SSLAM and data2vec 2.0 models, from the shapes of their weights and from fairseq's words."""

from __future__ import annotations

import ast
from typing import Any, Literal

from torch import Tensor

from sslam_lightning.checkpoints.pickle_scan import printable
from sslam_lightning.checkpoints.position_table import mel_patches_of
from sslam_lightning.checkpoints.settings import as_kind
from sslam_lightning.checkpoints.stand_ins import section
from sslam_lightning.checkpoints.verify import count_stack
from sslam_lightning.checkpoints.weights import State
from sslam_lightning.models import (
    ConvPositionsConfig,
    DecoderConfig,
    EncoderConfig,
    FrontEndConfig,
    ImageConfig,
    TextConfig,
    WaveformConfig,
)
from sslam_lightning.models.front_ends.waveform import Layer

Modality = Literal["image", "audio", "text"]

NOT_OURS = "not an EAT, SSLAM or data2vec 2.0 checkpoint"
PADDING_TOKEN = 1  # of fairseq's dictionaries
NUM_MELS = 128  # of every model of the public code, whose configuration does not say it
PATCH_STRIDE = 16  # of the public patch embedding for spectrograms, whatever its patch_size
_MAX_LAYERS = 1000


def encoder_config(cfg: Any, modality: Modality, encoder: State, positions: State, source: str) -> EncoderConfig:
    """The encoder: what shapes tell is read from them, the rest from the configuration.

    Raises:
        ValueError: if weights are missing, or a setting cannot be computed.
    """
    try:
        hidden_dim, dim = encoder["blocks.0.mlp.fc1.weight"].shape
        front_end = _front_end(cfg, modality, encoder)
        patch_size = 16 if front_end is not None else encoder["front_end.proj.weight"].shape[-1]
        mlp_ratio = hidden_dim / dim
        relative = encoder.get("conv_positions.convs.0.weight")
        conv_positions = None if relative is None else _conv_positions(encoder, relative)
    except (KeyError, IndexError, ZeroDivisionError, TypeError) as error:
        raise ValueError(f"{source} is {NOT_OURS}: {error}") from None
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    table = positions.get("positions") if front_end is None else None  # an image's may be of any height
    mel_patches = None if table is None else mel_patches_of(table, dim, source)
    before = bool(section(cfg, "layer_norm_first"))
    try:
        return EncoderConfig(
            dim=dim,
            depth=count_stack(encoder, "blocks"),
            num_heads=as_kind(section(cfg, "num_heads"), int, "cfg.model.num_heads"),
            mlp_ratio=mlp_ratio,
            patch_size=patch_size,
            num_mels=mel_patches * patch_size if mel_patches else NUM_MELS,
            norm_order="pre_released" if before else "post",
            norm_eps=as_kind(section(cfg, "norm_eps") or 1e-6, float, "cfg.model.norm_eps"),
            prenet_depth=count_stack(encoder, "prenet"),
            front_end=front_end,
            clip_token="clip_token" in encoder,
            zero_clip_token=section(cfg, "modalities", modality, "init_extra_token_zero") is True,
            input_norm="input_norm.weight" in encoder or before,
            conv_positions=conv_positions,
            alibi=_alibi(cfg, modality, encoder),
        )
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None


def decoder_config(cfg: Any, modality: Modality, decoder: State, source: str) -> DecoderConfig:
    """The decoder of the modality that the model was trained on; the file describes those of others as well.

    Raises:
        ValueError: if weights are missing, or a setting is of another type.
    """

    def setting(kind: type, default: Any, *path: str) -> Any:
        found = section(cfg, "modalities", modality, *path)
        return as_kind(default if found is None else found, kind, ".".join(("cfg.model.modalities", modality, *path)))

    try:
        first = decoder["convs.0.weight"]
        dim, per_group, kernel_size, *rest = first.shape
        two_layers = "proj.2.weight" in decoder
        encoder_dim = decoder["proj.2.weight" if two_layers else "proj.weight"].shape[0]
        return DecoderConfig(
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
    except (KeyError, ValueError, IndexError, ZeroDivisionError) as error:
        raise ValueError(f"{source}: its decoder is not one of EAT, SSLAM or data2vec 2.0: {error}") from None


def _front_end(cfg: Any, modality: Modality, encoder: State) -> FrontEndConfig | None:
    """None is the spectrogram's: an image of one channel."""
    if modality == "text":
        # The first place is that of the padding token, behind which places are counted.
        vocabulary, num_places = len(encoder["front_end.tokens.weight"]), len(encoder["front_end.places.weight"])
        dropout = section(cfg, "modalities", "text", "dropout")
        dropout = as_kind(0.1 if dropout is None else dropout, float, "cfg.model.modalities.text.dropout")
        return TextConfig(vocabulary, num_places - PADDING_TOKEN - 1, PADDING_TOKEN, dropout)
    if modality == "audio":
        where = "cfg.model.modalities.audio.feature_encoder_spec"
        spec = section(cfg, "modalities", "audio", "feature_encoder_spec")
        layers = WaveformConfig().layers if spec is None else conv_layers(as_kind(spec, str, where), where)
        convs = [encoder[f"front_end.convs.{number}.weight"] for number in range(count_stack(encoder, "front_end.convs"))]
        if [(conv.shape[0], conv.shape[-1]) for conv in convs] != [(channels, kernel) for channels, kernel, _ in layers]:
            raise ValueError(f"{where} is not that of the file's {len(convs)} convolutions")
        return WaveformConfig(layers)
    _, in_channels, patch_size, _ = encoder["front_end.proj.weight"].shape
    of_eat = in_channels == 1 or section(cfg, "modalities", "image", "target_length") is not None
    if of_eat and patch_size != PATCH_STRIDE:
        raise ValueError(
            f"cfg.model.modalities.image.patch_size is {patch_size}, but the public code cuts patches at a stride of "
            f"{PATCH_STRIDE}: only {PATCH_STRIDE} is computed here"
        )
    frames = section(cfg, "modalities", "image", "target_length")
    if in_channels == 1 and "alibi.scale" in encoder and frames != NUM_MELS:
        raise ValueError(
            f"cfg.model.modalities.image.use_alibi_encoder is True with a target_length of {frames} frames, but the public "
            f"code's distances are those of a square field: only {NUM_MELS} frames are computed here"
        )
    return None if in_channels == 1 else ImageConfig(patch_size, in_channels)


def conv_layers(spec: str, where: str) -> tuple[Layer, ...]:
    """Channels, kernel and stride of every convolution. fairseq writes Python, ``[(512, 10, 5)] + [(512, 3, 2)] * 4``: here
    it is read, not run, and may be made of lists, sums, multiples and ``[::-1]``.

    Raises:
        ValueError: if it is anything else.
    """
    try:
        layers = _as_list(ast.parse(spec[:_MAX_LAYERS].strip(), mode="eval").body)
        if all(len(layer) == 3 and all(type(number) is int for number in layer) for layer in layers):
            return tuple((channels, kernel, stride) for channels, kernel, stride in layers)
    except (ValueError, SyntaxError, TypeError, AttributeError, RecursionError, MemoryError):
        pass
    raise ValueError(f"{where} is not a list of (channels, kernel, stride): {printable(spec[:200])!r}")


def _as_list(node: ast.expr) -> list[Any]:
    """What an expression of lists comes to."""
    match node:
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            result = _as_list(left) + _as_list(right)
        case (
            ast.BinOp(left=ast.Constant(value=int(times)), op=ast.Mult(), right=of)
            | ast.BinOp(left=of, op=ast.Mult(), right=ast.Constant(value=int(times)))
        ):
            result = _as_list(of) * min(times, _MAX_LAYERS + 1)
        case ast.Subscript(value=of, slice=ast.Slice(lower=None, upper=None, step=step)):
            result = _as_list(of)[:: ast.literal_eval(step) if step else 1]
        case _:
            result = list(ast.literal_eval(node))
    if len(result) > _MAX_LAYERS:
        raise ValueError("too long")
    return result


def _conv_positions(encoder: State, first: Tensor) -> ConvPositionsConfig:
    dim, per_group, kernel = first.shape
    depth = count_stack(encoder, "conv_positions.convs")
    return ConvPositionsConfig(depth, kernel * depth, dim // per_group)


def _alibi(cfg: Any, modality: Modality, encoder: State) -> Literal["fixed", "learned"] | None:
    if "alibi.scale" not in encoder:
        return None
    return "learned" if section(cfg, "modalities", modality, "learned_alibi_scale") is True else "fixed"
