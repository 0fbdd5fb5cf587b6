"""BAT's public checkpoints (github houtan-ghaffari/BAT_ICML2026).

Its trainer writes ``encoder``, ``decoder``, ``ema_encoder`` and ``args``; the released weights are one ``state_dict`` of a
student and a teacher without settings; a fine-tuned model is ``state`` and ``args``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sslam_lightning.checkpoints.formats.eat import columns_of
from sslam_lightning.checkpoints.keys.config import Purpose, check_keys
from sslam_lightning.checkpoints.keys.mapping import Rule, import_keys
from sslam_lightning.checkpoints.keys.tables import BAT_KEYS
from sslam_lightning.checkpoints.messages import naming, unknown_keys
from sslam_lightning.checkpoints.settings import as_table, read_dataclass, read_features
from sslam_lightning.checkpoints.state_dict import count_stack, read_state, with_prefix
from sslam_lightning.checkpoints.weights import State, Weights
from sslam_lightning.features.decibels import fft_samples
from sslam_lightning.features.fbank import hop_samples
from sslam_lightning.layers import mel_major_positions
from sslam_lightning.models import EncoderConfig, TransformerDecoderConfig
from sslam_lightning.whole_numbers import check_whole_numbers

_MARK = "patch_embed.proj.weight"
_RELEASED = "student.encoder."
_BLOCK = ("norm1.*", "norm2.*", "attn.qkv.*", "attn.gate.*", "attn.proj.*", "mlp.fc1.*", "mlp.fc2.*")
_RULES = (
    Rule("encoder.cls_token", "encoder", "cls_token"),
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
_SIZES = {384: 6, 768: 12, 1024: 16}  # width and heads of the public models, where a file does not say
_SINGLE_LABEL = ("esc50", "scv2")  # tasks
_PARTS = ("encoder", "decoder", "ema_encoder", "state")  # of a file, the last of a fine-tuned model alone


@dataclass(frozen=True)
class Arguments:
    """The honored keys of ``BAT_KEYS``; None: the file does not say. Sizes that weights tell as well are compared."""

    sr: int = 16000
    n_fft: int = 1024
    hop_length: int = 160
    n_mels: int = 128
    time_frame_size: int | None = None
    patch_size: int | None = None
    dim: int | None = None
    depth: int | None = None
    num_heads: int | None = None
    mlp_ratio: float | None = None
    decoder_dim: int | None = None
    decoder_depth: int | None = None
    decoder_heads: int | None = None
    decoder_mlp_ratio: float | None = None
    task: str | None = None
    use_cls_in_head: bool = True

    def __post_init__(self) -> None:
        check_whole_numbers(self, "args")

    def refuse_unless(self, **sizes: float) -> None:
        """Raise ValueError if an argument says something else than the weights do."""
        for name, size in sizes.items():
            if getattr(self, name) not in (None, size):
                raise ValueError(f"args.{name} is {getattr(self, name)}, its weights are those of {size:g}")

    def heads(self, name: str, dim: int) -> int:
        """Attention heads, those of the public models where the file does not say."""
        if getattr(self, name) is None and dim not in _SIZES:
            raise ValueError(f"it has no args.{name}, and its width {dim} is none of the public models' ({list(_SIZES)})")
        return getattr(self, name) or _SIZES[dim]


def is_bat_file(content: Mapping[str, Any]) -> bool:
    """Whether a file's content has the names of BAT's trainer, of its released weights, or of its fine-tuned models."""
    trained, tuned = content.get("encoder"), _tuned_state(content)
    return (
        (isinstance(trained, Mapping) and _MARK in trained)
        or _RELEASED + _MARK in _released_state(content)
        or (isinstance(tuned, Mapping) and _MARK in tuned and "args" in content)
    )


def from_bat_file(
    content: Mapping[str, Any], source: str, max_bytes: int | None = None, purpose: Purpose = "training"
) -> Weights:
    """The model of one of BAT's files; arguments and errors as :func:`from_fairseq_file`."""
    if _RELEASED + _MARK in _released_state(content):
        whole = read_state(_released_state(content), f"{source}: state_dict", max_bytes)
        weights = from_bat(with_prefix(whole, "student."), None, source, with_prefix(whole, "teacher."), purpose)
        return weights._replace(unused=tuple(key for key in whole if not key.startswith(("student.", "teacher."))))
    tuned = _tuned_state(content)
    found = content if tuned is None else {"state": tuned}
    parts = {name: read_state(found[name], f"{source}: {name}", max_bytes) for name in _PARTS if name in found}
    state = {f"{name}.{key}": value for name in ("encoder", "decoder") for key, value in parts.get(name, {}).items()}
    for key, value in parts.get("state", {}).items():
        state[key if key.startswith("head.") else f"encoder.{key}"] = value
    teacher = {f"encoder.{key}": value for key, value in parts.get("ema_encoder", {}).items()}
    known = {*_PARTS, "args", "optimized_steps", "history", "test_metrics"}
    weights = from_bat(state, content.get("args"), source, teacher, purpose)
    return weights._replace(unused=unknown_keys(content, known))


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
    with naming(source, "a BAT checkpoint"):
        config = _encoder_config(encoder, arguments, parts["positions"]["table"])
        decoder_config = _decoder_config(decoder, config, arguments) if decoder else None
    features = {
        "kind": "decibel",
        "num_frames": arguments.time_frame_size or (config.max_time_patches or 0) * config.patch_size,
        "num_mels": config.num_mels,
        "patch_frames": config.patch_size,
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
        multi_label=arguments.task not in _SINGLE_LABEL,
        pooling="cls" if arguments.use_cls_in_head else "mean",
        resampler="soxr",
    )


def rename(state: Mapping[str, Tensor], source: str) -> dict[str, State]:
    """Sort into our parts. A weight that no rule knows, such as a layer scale's, would change the arithmetic."""
    parts, unknown = import_keys(state, _RULES)
    if unknown:
        raise ValueError(f"{source} has the weight {unknown[0]}, which no BAT model that is computed here has")
    decoder = parts.get("decoder", {})
    for name, shape in (("mask_token", (1, 1)), ("positions", (1,))):
        if name in decoder and decoder[name].ndim == 3 and decoder[name].shape[: len(shape)] == shape:
            decoder[name] = decoder[name][(0,) * len(shape)]
    return dict(parts)


def read_arguments(args: Any, where: str, purpose: Purpose) -> Arguments:
    """The arguments of a file; None are the defaults."""
    args = {} if args is None else as_table(args, where)
    check_keys(args, BAT_KEYS, where, purpose)
    arguments = read_dataclass(Arguments, args, where)
    computed = {"n_fft": fft_samples(arguments.sr), "hop_length": hop_samples(arguments.sr)}
    for name, value in computed.items():
        if getattr(arguments, name) != value:
            raise ValueError(f"{where}.{name} is {getattr(arguments, name)}, only {value} is computed here")
    return arguments


def _encoder_config(encoder: State, arguments: Arguments, table: Tensor) -> EncoderConfig:
    """What shapes tell is read from them, and has to be what the arguments say."""
    dim, channels, patch, mel_side = encoder["front_end.proj.weight"].shape
    if channels != 1 or patch != mel_side:
        raise ValueError(f"patch_embed.proj.weight is for patches of {channels} x {patch} x {mel_side}, not for squares")
    depth, mlp_ratio = count_stack(encoder, "blocks"), len(encoder["blocks.0.mlp.fc1.bias"]) / dim
    arguments.refuse_unless(dim=dim, depth=depth, patch_size=patch, mlp_ratio=mlp_ratio)
    if arguments.n_mels % patch:
        raise ValueError(f"args.n_mels must be a multiple of patch_size, got {arguments.n_mels} and {patch}")
    return EncoderConfig(
        dim=dim,
        depth=depth,
        num_heads=arguments.heads("num_heads", dim),
        mlp_ratio=mlp_ratio,
        patch_size=patch,
        num_mels=arguments.n_mels,
        input_norm="input_norm.weight" in encoder,
        gated_attention="blocks.0.attn.gate.weight" in encoder,
        max_time_patches=columns_of(table, arguments.n_mels // patch, dim, "encoder.pos_embed", mel_major_positions),
        weight_init="xavier",
    )


def _decoder_config(decoder: State, encoder: EncoderConfig, arguments: Arguments) -> TransformerDecoderConfig:
    dim, depth = len(decoder["mask_token"]), count_stack(decoder, "blocks")
    mlp_ratio = len(decoder["blocks.0.mlp.fc1.bias"]) / dim
    arguments.refuse_unless(decoder_dim=dim, decoder_depth=depth, decoder_mlp_ratio=mlp_ratio)
    return TransformerDecoderConfig(
        dim=dim,
        depth=depth,
        num_heads=arguments.heads("decoder_heads", dim),
        mlp_ratio=mlp_ratio,
        positions="learned",
        max_tokens=len(decoder["positions"]),
        mel_patches=encoder.num_mels // encoder.patch_size,
        input_norm=False,
        norm_eps=encoder.norm_eps,
        gated_attention="blocks.0.attn.gate.weight" in decoder,
        projection_bias=False,
        weight_init="xavier",
        output_projection=True,
    )


def _released_state(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The table of weights of a file without settings: its ``state_dict``, or all of it."""
    state = content.get("state_dict", content)
    return state if isinstance(state, Mapping) else {}


def _tuned_state(content: Mapping[str, Any]) -> Any:
    """That of a fine-tuned model; the public script writes it as the only member of a tuple."""
    state = content.get("state")
    return state[0] if isinstance(state, (tuple, list)) and len(state) == 1 else state
