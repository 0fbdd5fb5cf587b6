"""The names of BAT's public checkpoints (github houtan-ghaffari/BAT_ICML2026).

Its trainer writes ``encoder``, ``decoder``, ``ema_encoder`` and ``args``; the released weights are one ``state_dict`` of a
student and a teacher without settings; a fine-tuned model is ``state`` and ``args``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sslam_lightning.checkpoints.bat_arguments import Arguments, read_arguments
from sslam_lightning.checkpoints.config_keys import Purpose
from sslam_lightning.checkpoints.names import Rule, to_ours
from sslam_lightning.checkpoints.pickle_scan import printable
from sslam_lightning.checkpoints.settings import read_features, read_state
from sslam_lightning.checkpoints.stand_ins import opened
from sslam_lightning.checkpoints.verify import count_stack
from sslam_lightning.checkpoints.weights import State, Weights
from sslam_lightning.layers import mel_major_positions
from sslam_lightning.models import EncoderConfig, TransformerDecoderConfig

_MARK = "patch_embed.proj.weight"
_RELEASED = "student.encoder."
_BLOCK = ("norm1.*", "norm2.*", "attn.qkv.*", "attn.gate.*", "attn.proj.*", "mlp.fc1.*", "mlp.fc2.*")
_RULES = (
    Rule("encoder.cls_token", "encoder", "clip_token"),
    Rule("encoder.pos_embed", "positions", "table"),
    Rule("encoder.patch_embed.proj.*", "encoder", "front_end.proj.*"),
    Rule("encoder.pre_norm.*", "encoder", "input_norm.*"),
    Rule("decoder.mask_token", "decoder", "mask_token"),
    Rule("decoder.pos_embed", "decoder", "positions"),
    Rule("decoder.in_proj.weight", "decoder", "input_proj.weight"),
    Rule("decoder.out_proj.weight", "decoder", "output_proj.weight"),
    *(Rule(f"{part}.blocks.#.{name}", part, f"blocks.#.{name}") for part in ("encoder", "decoder") for name in _BLOCK),
    Rule("head.ln.*", "head", "norm.*"),
    Rule("head.fc.*", "head", "linear.*"),
)
_TOLERANCE = 2e-3  # of the table of positions: half precision keeps three digits
_SIZES = {384: 6, 768: 12, 1024: 16}  # width and heads of the public models, where a file does not say


def is_bat_file(content: Any) -> bool:
    """Whether a file's content has the names of BAT's trainer, of its released weights, or of its fine-tuned models."""
    if not isinstance(content, Mapping):
        return False
    trained, tuned = opened(content.get("encoder")), _tuned_state(content)
    return (
        (isinstance(trained, Mapping) and _MARK in trained)
        or _RELEASED + _MARK in _released_state(content)
        or (isinstance(tuned, Mapping) and _MARK in tuned and "args" in content)
    )


def from_bat_file(
    content: Mapping[str, Any], source: str, max_bytes: int | None = None, purpose: Purpose = "training"
) -> Weights:
    """The model of one of BAT's files.

    Args:
        content: the file's.
        source: what to call this checkpoint in messages.
        max_bytes: of weights that the file can hold.
        purpose: what the file is opened for.

    Raises:
        ValueError: if a part of the model is missing, is not what it has to be, or has settings that are not computed here.
    """
    unused: list[str] = []
    if _RELEASED + _MARK in _released_state(content):
        whole = read_state(_released_state(content), f"{source}: state_dict", max_bytes)
        state = {key.removeprefix("student."): value for key, value in whole.items() if key.startswith("student.")}
        teacher = {key.removeprefix("teacher."): value for key, value in whole.items() if key.startswith("teacher.")}
        unused += (key for key in whole if not key.startswith(("student.", "teacher.")))
        return from_bat(state, None, source, teacher, purpose)._replace(unused=tuple(unused))
    known = {"encoder", "decoder", "ema_encoder", "args", "optimized_steps", "state", "history", "test_metrics"}
    unused += (printable(str(key)) for key in content if key not in known)
    if (tuned := _tuned_state(content)) is not None:
        parts = {"state": tuned}
    else:
        parts = {name: opened(content.get(name)) for name in ("encoder", "decoder", "ema_encoder") if name in content}
    read = {name: read_state(part, f"{source}: {name}", max_bytes) for name, part in parts.items()}
    state = {f"{name}.{key}": value for name in ("encoder", "decoder") for key, value in read.get(name, {}).items()}
    for key, value in read.get("state", {}).items():
        state[key if key.startswith("head.") else f"encoder.{key}"] = value
    teacher = {f"encoder.{key}": value for key, value in read.get("ema_encoder", {}).items()}
    return from_bat(state, content.get("args"), source, teacher, purpose)._replace(unused=tuple(unused))


def from_bat(
    state: Mapping[str, Tensor],
    args: Mapping[str, Any] | None,
    source: str,
    teacher: Mapping[str, Tensor] | None = None,
    purpose: Purpose = "training",
) -> Weights:
    """Weights and configuration of a BAT model.

    Args:
        state: the student's, by the names of its parts: ``encoder.*``, ``decoder.*``; of a fine-tuned model ``head.*``.
        args: the arguments of the public script; None: the file has none, and the model is one of the public sizes.
        source: what to call this checkpoint in messages.
        teacher: the teacher's, ``encoder.*``.
        purpose: what the model is for.

    Raises:
        ValueError: if a part of the model is missing, or a weight or argument is not computed here.
    """
    parts, teacher_parts = rename(state, source), rename(teacher or {}, f"{source}: its teacher")
    arguments = read_arguments(args, f"{source}: args", purpose)
    encoder, decoder = parts.get("encoder", {}), parts.get("decoder")
    try:
        config = _encoder_config(encoder, arguments, parts["positions"]["table"])
        decoder_config = _decoder_config(decoder, config, arguments) if decoder else None
    except KeyError as error:
        raise ValueError(f"{source} is not a BAT checkpoint: {error} is missing") from None
    except (RuntimeError, TypeError, IndexError, ZeroDivisionError) as error:
        raise ValueError(f"{source} is not a BAT checkpoint: {str(error).splitlines()[0][:200]}") from None
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    patch = config.patch_size
    frames = arguments.time_frame_size or (config.max_time_patches or 0) * patch
    features = {
        "kind": "decibel",
        "num_frames": frames,
        "num_mels": config.num_mels,
        "patch_frames": patch,
        "sample_rate_hz": arguments.sr,
    }
    return Weights(
        source,
        config,
        encoder,
        teacher_parts.get("encoder"),
        decoder_config,
        decoder,
        head=parts.get("head"),
        features=read_features(features, f"{source}: args"),
        multi_label=arguments.multi_label,
        pooling=arguments.pooling,
        resampler="soxr",
    )


def rename(state: Mapping[str, Tensor], source: str) -> dict[str, State]:
    """Sort into our parts. A weight that no rule knows, such as a layer scale's, would change the arithmetic."""
    parts, unknown = to_ours(state, _RULES)
    if unknown:
        raise ValueError(f"{source} has the weight {unknown[0]}, which no BAT model that is computed here has")
    decoder = parts.get("decoder", {})
    for name, ndim in (("mask_token", 1), ("positions", 2)):
        if name in decoder and decoder[name].shape[:-ndim] == (1,) * (3 - ndim):
            decoder[name] = decoder[name].flatten(0, -ndim) if ndim > 1 else decoder[name].flatten()
    return dict(parts)


def _encoder_config(encoder: State, arguments: Arguments, table: Tensor) -> EncoderConfig:
    """What shapes tell is read from them, and has to be what the arguments say."""
    dim, channels, patch, mel_side = encoder["front_end.proj.weight"].shape
    if channels != 1 or patch != mel_side:
        raise ValueError(f"patch_embed.proj.weight is for patches of {channels} x {patch} x {mel_side}, not for squares")
    depth, mlp_ratio = count_stack(encoder, "blocks"), len(encoder["blocks.0.mlp.fc1.bias"]) / dim
    for name, found in (("dim", dim), ("depth", depth), ("patch_size", patch), ("mlp_ratio", mlp_ratio)):
        arguments.refuse_unless(name, found)
    if arguments.n_mels % patch:
        raise ValueError(f"args.n_mels must be a multiple of patch_size, got {arguments.n_mels} and {patch}")
    return EncoderConfig(
        dim=dim,
        depth=depth,
        num_heads=arguments.num_heads or _heads(dim, "num_heads"),
        mlp_ratio=mlp_ratio,
        patch_size=patch,
        num_mels=arguments.n_mels,
        input_norm="input_norm.weight" in encoder,
        gated_attention="blocks.0.attn.gate.weight" in encoder,
        max_time_patches=_time_patches(table, arguments.n_mels // patch, dim),
        weight_init="xavier",
    )


def _time_patches(table: Tensor, num_mel: int, dim: int) -> int:
    """Columns of the field that the encoder's table of positions is for; it is computed here, so it is compared.

    Raises:
        ValueError: if it is another table, learned or of another field.
    """
    rows = table.reshape(-1, dim).float() if table.numel() and table.shape[-1] == dim else torch.zeros(0, dim)
    num_time = len(rows) // num_mel
    expected = mel_major_positions(num_time, num_mel, dim)
    if not num_time or len(rows) % num_mel or not (rows - expected).abs().max() < _TOLERANCE:  # a NaN is not
        raise ValueError(f"encoder.pos_embed is not the fixed sine-cosine table of {num_mel} patches along the mels")
    return num_time


def _decoder_config(decoder: State, encoder: EncoderConfig, arguments: Arguments) -> TransformerDecoderConfig:
    dim, depth = len(decoder["mask_token"]), count_stack(decoder, "blocks")
    mlp_ratio = len(decoder["blocks.0.mlp.fc1.bias"]) / dim
    for name, found in (("decoder_dim", dim), ("decoder_depth", depth), ("decoder_mlp_ratio", mlp_ratio)):
        arguments.refuse_unless(name, found)
    return TransformerDecoderConfig(
        dim=dim,
        depth=depth,
        num_heads=arguments.decoder_heads or _heads(dim, "decoder_heads"),
        mlp_ratio=mlp_ratio,
        positions="learned",
        max_tokens=len(decoder["positions"]),
        mel_patches=encoder.num_mels // encoder.patch_size,
        input_norm=False,
        norm_eps=encoder.norm_eps,
        gated_attention="blocks.0.attn.gate.weight" in decoder,
        projection_bias=False,
        weight_init="xavier",
    )


def _heads(dim: int, name: str) -> int:
    if dim not in _SIZES:
        raise ValueError(f"it has no args.{name}, and its width {dim} is none of the public models' ({list(_SIZES)})")
    return _SIZES[dim]


def _released_state(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The table of weights of a file without settings: its ``state_dict``, or all of it."""
    state = opened(content.get("state_dict", content))
    return state if isinstance(state, Mapping) else {}


def _tuned_state(content: Mapping[str, Any]) -> Any:
    """That of a fine-tuned model; the public script writes it as the only member of a tuple."""
    state = opened(content.get("state"))
    return opened(state[0]) if isinstance(state, (tuple, list)) and len(state) == 1 else state
