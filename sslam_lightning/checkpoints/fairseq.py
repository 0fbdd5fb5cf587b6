"""The names of fairseq's data2vec 2.0, EAT and SSLAM checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sslam_lightning.checkpoints.names import Rule, to_ours
from sslam_lightning.checkpoints.own_section import OWN_SECTION, Description, read_description
from sslam_lightning.checkpoints.position_table import mel_patches_of
from sslam_lightning.checkpoints.settings import as_kind, read_class_names, read_features, read_state
from sslam_lightning.checkpoints.stand_ins import opened, section
from sslam_lightning.checkpoints.verify import count_stack
from sslam_lightning.checkpoints.weights import State, Weights
from sslam_lightning.models import DecoderConfig, EncoderConfig
from sslam_lightning.models.heads import Pooling

# The first rule that matches the whole key wins.
RULES = (
    Rule("modality_encoders.IMAGE.extra_tokens", "encoder", "clip_token"),
    Rule("modality_encoders.IMAGE.local_encoder.proj.*", "encoder", "front_end.proj.*"),
    Rule("modality_encoders.IMAGE.context_encoder.norm.*", "encoder", "input_norm.*"),
    Rule("modality_encoders.IMAGE.context_encoder.blocks.*", "encoder", "prenet.*"),
    Rule("modality_encoders.IMAGE.decoder.blocks.#.0.*", "decoder", "convs.#.*"),
    Rule("modality_encoders.IMAGE.decoder.proj.*", "decoder", "proj.*"),
    # The table is a formula; the model computes it for any length.
    Rule("modality_encoders.IMAGE.fixed_positional_encoder.positions", "positions", "positions"),
    Rule("blocks.*", "encoder", "blocks.*"),
    Rule("norm.*", "encoder", "output_norm.*"),
    Rule("recon_proj.*", "reconstruction", "*"),
    Rule("fc_norm.*", "head", "norm.*"),
    Rule("head.*", "head", "linear.*"),
)
WRAPPER = "model."  # fine-tuned models wrap the pre-trained one
POOLING: dict[str, Pooling] = {"CLS_TOKEN": "clip_token", "MEAN_POOLING": "mean", "LIN_SOFTMAX": "linear_softmax"}

_NUM_MELS = 128  # of every released model; no configuration says it
_TRAINING_STATE = {"args", "criterion", "optimizer_history", "extra_state", "last_optimizer_state"}
_NORMALISATION = {"esc50_eval": (-6.627, 5.359), "spcv2_eval": (-6.846, 5.565)}  # of the log-mels, by the task's switch
_AUDIOSET = (-4.268, 4.569)


def rename(state: Mapping[str, Tensor]) -> tuple[dict[str, State], tuple[str, ...]]:
    """Sort a state with fairseq's names into our parts; also the keys that no rule knows."""
    return to_ours(state, RULES, WRAPPER)


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
    known = {"model", "cfg", "task_state", OWN_SECTION, *_TRAINING_STATE}
    weights = weights._replace(unused=(*weights.unused, *(str(key)[:80] for key in content if key not in known)))
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
    if "clip_token" not in parts["encoder"]:
        raise ValueError(f"{source} is not an EAT or SSLAM checkpoint: modality_encoders.IMAGE.extra_tokens is missing")
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
        projection = encoder["front_end.proj.weight"]
        dim, in_channels, patch_size, _ = projection.shape
        hidden_dim = encoder["blocks.0.mlp.fc1.weight"].shape[0]
        mlp_ratio = hidden_dim / dim
    except (KeyError, ValueError, ZeroDivisionError) as error:
        raise ValueError(f"{source} is not an EAT or SSLAM checkpoint: {error}") from None
    table = positions.get("positions")
    mel_patches = None if table is None else mel_patches_of(table, dim, source)
    try:
        return EncoderConfig(
            dim=dim,
            depth=count_stack(encoder, "blocks"),
            num_heads=as_kind(section(cfg, "num_heads"), int, "cfg.model.num_heads"),
            mlp_ratio=mlp_ratio,
            patch_size=patch_size,
            num_mels=mel_patches * patch_size if mel_patches else _NUM_MELS,
            in_channels=in_channels,
            norm_order="pre_released" if section(cfg, "layer_norm_first") else "post",
            norm_eps=as_kind(section(cfg, "norm_eps") or 1e-6, float, "cfg.model.norm_eps"),
            prenet_depth=count_stack(encoder, "prenet"),
        )
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None


def _decoder_config(cfg: Mapping[str, Any], decoder: State, source: str) -> DecoderConfig:
    noise_std = section(cfg, "modalities", "image", "mask_noise_std")
    try:
        first = decoder["convs.0.weight"]
        dim, channels, kernel_size, _ = first.shape
        return DecoderConfig(
            dim=dim,
            depth=count_stack(decoder, "convs"),
            kernel_size=kernel_size,
            groups=decoder["proj.weight"].shape[0] // channels,
            noise_std=as_kind(0.01 if noise_std is None else noise_std, float, "cfg.model.modalities.image.mask_noise_std"),
        )
    except (KeyError, ValueError, IndexError, ZeroDivisionError) as error:
        raise ValueError(f"{source}: its decoder is not one of EAT or SSLAM: {error}") from None


def _description(cfg: Any, content: Mapping[str, Any], weights: Weights) -> Description:
    """Front-end and classes, as far as the public trainer's configuration says them."""
    task, model, source = section(cfg, "task"), section(cfg, "model"), weights.source
    one_class = [name for name in _NORMALISATION if section(task, name) is True or section(model, name) is True]
    features = None
    if (num_frames := section(task, "target_length")) is not None:
        mean, std = _NORMALISATION[one_class[0]] if one_class else _AUDIOSET
        size = {"num_mels": weights.encoder.num_mels, "patch_frames": weights.encoder.patch_size}
        features = read_features({"num_frames": num_frames, "mean": mean, "std": std, **size}, f"{source}: cfg.task")
    log_keys = section(cfg, "criterion", "log_keys")
    counts_correct = isinstance(log_keys, list) and "correct" in [opened(key) for key in log_keys]
    return Description(
        features,
        _class_names(section(content.get("task_state"), "labels"), source) if weights.head else (),
        not (one_class or counts_correct),
        POOLING.get(str(section(model, "prediction_mode")), "clip_token"),
    )


def _class_names(labels: Any, source: str) -> tuple[str, ...]:
    """The public task keeps a table from a class's name to its number."""
    if not isinstance(labels, Mapping) or not labels:
        return ()
    try:
        numbers = {int(number): name for name, number in labels.items()}
    except (TypeError, ValueError):
        raise ValueError(f"{source}: task_state.labels must be a table from names to numbers") from None
    if sorted(numbers) != list(range(len(labels))):
        raise ValueError(f"{source}: task_state.labels does not number its classes from 0 without gaps")
    return read_class_names([numbers[number] for number in range(len(labels))], f"{source}: task_state.labels")
