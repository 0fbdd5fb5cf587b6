"""The names of fairseq's data2vec 2.0 (waveforms, images, text), EAT and SSLAM checkpoints."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor

from sslam_lightning.checkpoints.names import Rule, to_ours
from sslam_lightning.checkpoints.own_section import OWN_SECTION, Description, read_description
from sslam_lightning.checkpoints.pickle_scan import printable
from sslam_lightning.checkpoints.position_table import mel_patches_of
from sslam_lightning.checkpoints.settings import as_kind, front_end_of, read_class_names, read_state
from sslam_lightning.checkpoints.stand_ins import opened, section
from sslam_lightning.checkpoints.verify import count_stack
from sslam_lightning.checkpoints.weights import State, Weights
from sslam_lightning.models import (
    ConvPositionsConfig,
    DecoderConfig,
    EncoderConfig,
    FrontEndConfig,
    ImageConfig,
    TextConfig,
    WaveformConfig,
)
from sslam_lightning.models.heads import Pooling
from sslam_lightning.models.waveform import Layer


def _of_modality(name: str) -> tuple[Rule, ...]:
    m = f"modality_encoders.{name}"
    return (
        Rule(f"{m}.extra_tokens", "encoder", "clip_token"),
        Rule(f"{m}.alibi_scale", "encoder", "alibi.scale"),
        Rule(f"{m}.local_encoder.proj.*", "encoder", "front_end.proj.*"),
        Rule(f"{m}.local_encoder.conv_layers.#.0.*", "encoder", "front_end.convs.#.*"),
        Rule(f"{m}.local_encoder.conv_layers.#.2.1.*", "encoder", "front_end.norms.#.*"),
        Rule(f"{m}.project_features.1.*", "encoder", "front_end.proj_norm.*"),
        Rule(f"{m}.project_features.2.*", "encoder", "front_end.proj.*"),
        Rule(f"{m}.local_encoder.embed_tokens.*", "encoder", "front_end.tokens.*"),
        Rule(f"{m}.local_encoder.embed_positions.*", "encoder", "front_end.places.*"),
        Rule(f"{m}.local_encoder.layernorm_embedding.*", "encoder", "front_end.norm.*"),
        Rule(f"{m}.relative_positional_encoder.#.0.*", "encoder", "conv_positions.convs.#.*"),
        Rule(f"{m}.context_encoder.norm.*", "encoder", "input_norm.*"),
        Rule(f"{m}.context_encoder.blocks.*", "encoder", "prenet.*"),
        Rule(f"{m}.decoder.blocks.#.0.*", "decoder", "convs.#.*"),
        Rule(f"{m}.decoder.proj.*", "decoder", "proj.*"),
        # The table is a formula; the model computes it for any length.
        Rule(f"{m}.fixed_positional_encoder.positions", "positions", "positions"),
    )


# The first rule that matches the whole key wins.
RULES = (
    *_of_modality("IMAGE"),
    *_of_modality("AUDIO"),
    *_of_modality("TEXT"),
    Rule("blocks.*", "encoder", "blocks.*"),
    Rule("#.*", "encoder", "blocks.#.*"),  # a teacher that has blocks alone is their list itself
    Rule("norm.*", "encoder", "output_norm.*"),
    Rule("recon_proj.*", "reconstruction", "*"),
    Rule("fc_norm.*", "head", "norm.*"),
    Rule("head.*", "head", "linear.*"),
)
WRAPPER = "model."  # fine-tuned models wrap the pre-trained one
POOLING: dict[str, Pooling] = {"CLS_TOKEN": "clip_token", "MEAN_POOLING": "mean", "LIN_SOFTMAX": "linear_softmax"}

_NOT_OURS = "not an EAT, SSLAM or data2vec 2.0 checkpoint"
_MODALITIES = ("image", "audio", "text")
_PADDING_TOKEN = 1  # of fairseq's dictionaries
_NUM_MELS = 128  # of every released model; no configuration says it
TRAINING_STATE = {"args", "criterion", "optimizer_history", "extra_state", "last_optimizer_state"}
_NORMALISATION = {"esc50_eval": (-6.627, 5.359), "spcv2_eval": (-6.846, 5.565)}  # of the log-mels, by the task's switch
_AUDIOSET = (-4.268, 4.569)


def rename(state: Mapping[str, Tensor]) -> tuple[dict[str, State], tuple[str, ...]]:
    """Sort a state with fairseq's names into our parts; also the keys that no rule knows."""
    parts, unknown = to_ours(state, RULES, WRAPPER)
    parts["encoder"] = {_counted_from_zero(name): value for name, value in parts["encoder"].items()}
    return parts, unknown


def _counted_from_zero(name: str) -> str:
    """In their list of positional convolutions a transposition comes first, so they are counted from 1."""
    start, place, rest = name.partition("conv_positions.convs.")
    number, _, rest = rest.partition(".")
    return f"{start}{place}{int(number) - 1}.{rest}" if place and len(number) < 9 else name


def from_fairseq_file(content: Mapping[str, Any], source: str, max_bytes: int | None = None) -> Weights:
    """Everything that a file of fairseq's trainer says about a model.

    Args:
        content: the file's: ``model``, and its configuration in ``cfg`` or, before Hydra, in ``args``.
        source: what to call this checkpoint in messages.
        max_bytes: of weights that the file can hold.

    Raises:
        ValueError: if this is no model of the EAT family.
    """
    state = dict(opened(content["model"]) or {})
    teacher = state.pop("_ema", None)
    cfg = content.get("cfg") or {"model": content.get("args")}
    weights = from_fairseq(
        read_state(state, f"{source}: model", max_bytes),
        model_section(cfg, source),
        source,
        None if teacher is None else read_state(teacher, f"{source}: model._ema", max_bytes),
    )
    known = {"model", "cfg", "task_state", OWN_SECTION, *TRAINING_STATE}
    weights = weights._replace(unused=(*weights.unused, *(printable(str(key)) for key in content if key not in known)))
    own = content.get(OWN_SECTION)
    if own is not None:
        return read_description(own, f"{source}: {OWN_SECTION}").applied_to(weights)
    return _description(cfg, content, weights).applied_to(weights)


def from_fairseq(
    state: Mapping[str, Any], model_cfg: Mapping[str, Any], source: str, teacher: Mapping[str, Tensor] | None = None
) -> Weights:
    """Weights and configuration of a fairseq model.

    Args:
        state: the model's state; its teacher may be in it under ``_ema``, as the public trainer saves it.
        model_cfg: the model's configuration in fairseq's words.
        source: what to call this checkpoint in messages.
        teacher: the teacher's state, if it is not in ``state``.

    Raises:
        ValueError: if this is no model of the EAT family.
    """
    state = dict(state)
    teacher = state.pop("_ema", teacher)
    parts, unknown = rename(state)
    if any(key.removeprefix(WRAPPER).startswith("modality_encoders.IMAGE.") for key in state):
        if "clip_token" not in parts["encoder"]:
            raise ValueError(f"{source} is {_NOT_OURS}: modality_encoders.IMAGE.extra_tokens is missing")
    elif not any(name.startswith("front_end.") for name in parts["encoder"]):
        raise ValueError(f"{source} is {_NOT_OURS}: it has no modality_encoders.*.local_encoder")
    teacher_parts, teacher_unknown = rename(teacher) if teacher else ({}, ())
    decoder = parts.get("decoder")
    return Weights(
        source,
        _encoder_config(model_cfg, parts["encoder"], parts.get("positions", {}), source),
        parts["encoder"],
        teacher_parts.get("encoder"),
        _decoder_config(model_cfg, decoder, source) if decoder else None,
        decoder,
        parts.get("reconstruction"),
        parts.get("head"),
        (*unknown, *(f"_ema.{key}" for key in teacher_unknown)),
    )


def model_section(cfg: Mapping[str, Any], source: str) -> Mapping[str, Any]:
    """The model's part of a whole fairseq configuration; a fine-tuned file keeps the pre-trained model's inside its own."""
    model = section(cfg, "model")
    if model is not None and not isinstance(model, Mapping):
        raise ValueError(f"{source}: its configuration has {type(model).__name__} where cfg.model is expected")
    nested = section(model, "pretrained_model_args", "model")
    if isinstance(nested, Mapping):
        model = nested
    if section(model, "num_heads") is None:
        raise ValueError(f"{source}: its configuration has no cfg.model.num_heads")
    return model or {}


def _encoder_config(cfg: Mapping[str, Any], encoder: State, positions: State, source: str) -> EncoderConfig:
    """What shapes tell is read from them; the rest from the configuration."""
    try:
        hidden_dim, dim = encoder["blocks.0.mlp.fc1.weight"].shape
        front_end = _front_end(cfg, encoder)
        patch_size = 16 if front_end is not None else encoder["front_end.proj.weight"].shape[-1]
        mlp_ratio = hidden_dim / dim
        relative = encoder.get("conv_positions.convs.0.weight")
        conv_positions = None if relative is None else _conv_positions(encoder, relative)
    except (KeyError, ValueError, IndexError, ZeroDivisionError) as error:
        raise ValueError(f"{source} is {_NOT_OURS}: {error}") from None
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
            num_mels=mel_patches * patch_size if mel_patches else _NUM_MELS,
            norm_order="pre_released" if before else "post",
            norm_eps=as_kind(section(cfg, "norm_eps") or 1e-6, float, "cfg.model.norm_eps"),
            prenet_depth=count_stack(encoder, "prenet"),
            front_end=front_end,
            clip_token="clip_token" in encoder,
            input_norm="input_norm.weight" in encoder or before,
            conv_positions=conv_positions,
            alibi=_alibi(cfg, encoder),
        )
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None


def _front_end(cfg: Mapping[str, Any], encoder: State) -> FrontEndConfig | None:
    """None is the spectrogram's: an image of one channel."""
    if "front_end.tokens.weight" in encoder:
        # The first place is that of the padding token, behind which places are counted.
        vocabulary, num_places = len(encoder["front_end.tokens.weight"]), len(encoder["front_end.places.weight"])
        dropout = section(cfg, "modalities", "text", "dropout")
        dropout = as_kind(0.1 if dropout is None else dropout, float, "cfg.model.modalities.text.dropout")
        return TextConfig(vocabulary, num_places - _PADDING_TOKEN - 1, _PADDING_TOKEN, dropout)
    if "front_end.convs.0.weight" in encoder:
        spec = section(cfg, "modalities", "audio", "feature_encoder_spec")
        if spec is None:
            return WaveformConfig()
        spec = as_kind(spec, str, "cfg.model.modalities.audio.feature_encoder_spec")
        return WaveformConfig(_conv_layers(spec, count_stack(encoder, "front_end.convs")))
    _, in_channels, patch_size, _ = encoder["front_end.proj.weight"].shape
    return None if in_channels == 1 else ImageConfig(patch_size, in_channels)


def _conv_layers(spec: str, expected: int) -> tuple[Layer, ...]:
    """fairseq writes Python: ``[(512, 10, 5)] + [(512, 3, 2)] * 4``. It is read, not run."""
    number = r"(\d{1,9})"
    found = re.findall(rf"\[\s*\({number},\s*{number},\s*{number}\)\s*\](?:\s*\*\s*{number})?", spec)
    if sum(int(times or 1) for *_, times in found) != expected:
        raise ValueError(f"feature_encoder_spec {printable(spec[:200])!r} does not tell the file's {expected} convolutions")
    return tuple((int(c), int(kernel), int(stride)) for c, kernel, stride, times in found for _ in range(int(times or 1)))


def _conv_positions(encoder: State, first: Tensor) -> ConvPositionsConfig:
    dim, per_group, kernel = first.shape
    depth = count_stack(encoder, "conv_positions.convs")
    return ConvPositionsConfig(depth, kernel * depth, dim // per_group)


def _alibi(cfg: Mapping[str, Any], encoder: State) -> Literal["fixed", "learned"] | None:
    if "alibi.scale" not in encoder:
        return None
    learned = any(section(cfg, "modalities", name, "learned_alibi_scale") is True for name in _MODALITIES)
    return "learned" if learned else "fixed"


def _decoder_config(cfg: Mapping[str, Any], decoder: State, source: str) -> DecoderConfig:
    name = next((name for name in _MODALITIES if section(cfg, "modalities", name)), "image")

    def setting(kind: type, default: Any, *path: str) -> Any:
        found = section(cfg, "modalities", name, *path)
        return as_kind(default if found is None else found, kind, ".".join(("cfg.model.modalities", name, *path)))

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


def _description(cfg: Any, content: Mapping[str, Any], weights: Weights) -> Description:
    """Front-end and classes, as far as the public trainer's configuration says them."""
    task, model, source = section(cfg, "task"), section(cfg, "model"), weights.source
    one_class = [name for name in _NORMALISATION if section(task, name) is True or section(model, name) is True]
    features = None
    num_frames = section(task, "target_length")
    if num_frames is not None and weights.encoder.front_end is None:
        mean, std = _NORMALISATION[one_class[0]] if one_class else _AUDIOSET
        features = front_end_of(num_frames, weights.encoder, f"{source}: cfg.task.target_length", mean=mean, std=std)
    log_keys = section(cfg, "criterion", "log_keys")
    counts_correct = isinstance(log_keys, list) and "correct" in [opened(key) for key in log_keys]
    return Description(
        features,
        _class_names(section(content.get("task_state"), "labels"), source) if weights.head else (),
        not (one_class or counts_correct),
        _pooling(section(model, "prediction_mode"), source),
    )


def _pooling(mode: Any, source: str) -> Pooling:
    """What the public enum's member, or its name, stands for; the public default is the clip token."""
    name = "CLS_TOKEN" if mode is None else str(mode).rpartition(".")[2]
    if name not in POOLING:
        known = ", ".join(POOLING)
        raise ValueError(f"{source}: cfg.model.prediction_mode must be one of {known}, got {printable(name[:100])!r}")
    return POOLING[name]


def _class_names(labels: Any, source: str) -> tuple[str, ...]:
    """The public task keeps a table from a class's name to its number."""
    if not isinstance(labels, Mapping) or not labels:
        return ()
    try:
        numbers = {int(opened(number)): name for name, number in labels.items()}
    except (TypeError, ValueError):
        raise ValueError(f"{source}: task_state.labels must be a table from names to numbers") from None
    if sorted(numbers) != list(range(len(labels))):
        raise ValueError(f"{source}: task_state.labels does not number its classes from 0 without gaps")
    return read_class_names([numbers[number] for number in range(len(labels))], f"{source}: task_state.labels")
