"""fairseq's checkpoints of data2vec 2.0 (waveforms, images, text), EAT and SSLAM."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from torch import Tensor

from sslam_lightning.checkpoints.formats.fairseq_config import NOT_OURS, Modality, decoder_config, encoder_config
from sslam_lightning.checkpoints.keys.config import Purpose, check_keys
from sslam_lightning.checkpoints.keys.mapping import Rule, import_keys
from sslam_lightning.checkpoints.keys.tables import DATA2VEC2_KEYS, EAT_FINETUNING_KEYS, TASK_KEYS
from sslam_lightning.checkpoints.messages import printable, shown, unknown_keys
from sslam_lightning.checkpoints.metadata import OWN_SECTION, with_own_section
from sslam_lightning.checkpoints.pickle_stubs import section
from sslam_lightning.checkpoints.settings import as_kind, front_end_of, read_class_names
from sslam_lightning.checkpoints.state_dict import read_state
from sslam_lightning.checkpoints.weights import State, Weights
from sslam_lightning.models import EncoderConfig, WaveformConfig
from sslam_lightning.models.heads import Pooling


def _of_modality(name: str) -> tuple[Rule, ...]:
    m = f"modality_encoders.{name}"
    return (
        Rule(f"{m}.extra_tokens", "encoder", "cls_token"),
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
POOLING: dict[str, Pooling] = {"CLS_TOKEN": "cls", "MEAN_POOLING": "mean", "LIN_SOFTMAX": "linear_softmax"}

_MODALITIES: tuple[Modality, ...] = ("image", "audio", "text")
_MODEL = "cfg.model"
_OF_MODALITY = re.compile(rf"(?:{re.escape(WRAPPER)})?modality_encoders\.(IMAGE|AUDIO|TEXT)\.")
TRAINING_STATE = {"args", "criterion", "optimizer_history", "extra_state", "last_optimizer_state"}
NORMALIZATION = {"esc50_eval": (-6.627, 5.359), "spcv2_eval": (-6.846, 5.565)}  # of the log-mels, by the task's switch
AUDIOSET = (-4.268, 4.569)


def rename(state: Mapping[str, Tensor]) -> tuple[dict[str, State], tuple[str, ...]]:
    """Sort a state with fairseq's names into our parts; also the keys that no rule knows."""
    parts, unknown = import_keys(state, RULES, WRAPPER)
    parts["encoder"] = {_counted_from_zero(name): value for name, value in parts["encoder"].items()}
    return parts, unknown


def _counted_from_zero(name: str) -> str:
    """In their list of positional convolutions a transposition comes first, so they are counted from 1."""
    match = re.fullmatch(r"conv_positions\.convs\.(\d{1,8})\.(.*)", name)
    return f"conv_positions.convs.{int(match[1]) - 1}.{match[2]}" if match else name


def from_fairseq_file(
    content: Mapping[str, Any], source: str, max_bytes: int | None = None, purpose: Purpose = "training"
) -> Weights:
    """Everything that a file of fairseq's trainer says about a model."""
    state = dict(content["model"])
    teacher = state.pop("_ema", None)
    cfg = content.get("cfg") or {"model": content.get("args")}
    model_cfg, where = model_section(cfg, source)
    weights = from_fairseq(
        read_state(state, f"{source}: model", max_bytes),
        model_cfg,
        source,
        None if teacher is None else read_state(teacher, f"{source}: model._ema", max_bytes),
        purpose,
        where,
    )
    known = {"model", "cfg", "task_state", OWN_SECTION, *TRAINING_STATE}
    weights = weights._replace(unused=(*weights.unused, *unknown_keys(content, known)))
    if content.get(OWN_SECTION) is not None:
        return with_own_section(weights, content[OWN_SECTION], f"{source}: {OWN_SECTION}")
    if where != _MODEL:
        check_keys(section(cfg, "model"), EAT_FINETUNING_KEYS, f"{source}: {_MODEL}", purpose)
    return _described(cfg, content, weights, purpose)


def from_fairseq(
    state: Mapping[str, Any],
    model_cfg: Mapping[str, Any],
    source: str,
    teacher: Mapping[str, Tensor] | None = None,
    purpose: Purpose = "training",
    where: str = _MODEL,
) -> Weights:
    """Weights and configuration of a fairseq model.

    Args:
        state: the model's state; its teacher may be in it under ``_ema``, as the public trainer saves it.
        model_cfg: the model's configuration in fairseq's words.
        source: what to call this checkpoint in messages.
        teacher: the teacher's state, if it is not in ``state``.
        purpose: what the weights are opened for. Pre-training can only be continued where there is a decoder or a teacher.
        where: what to call the configuration in messages.

    Raises:
        ValueError: if this is no model of the EAT family, or a key of its configuration is unknown or not computed.
    """
    state = dict(state)
    teacher = state.pop("_ema", teacher)
    modality = _modality_of(state, source)
    parts, unknown = rename(state)
    encoder, decoder = parts["encoder"], parts.get("decoder")
    if purpose == "training" and not decoder and not teacher:
        purpose = "init_from"
    others = tuple(f"modalities.{name}" for name in _MODALITIES if name != modality)
    check_keys(model_cfg, DATA2VEC2_KEYS, f"{source}: {where}", purpose, others)
    own = section(model_cfg, "modalities", modality)
    _refuse_a_shared_scale(own, f"{source}: {where}.modalities.{modality}", purpose)
    if modality == "image" and section(own, "num_extra_tokens") != 0 and "cls_token" not in encoder:
        raise ValueError(f"{source} is {NOT_OURS}: modality_encoders.IMAGE.extra_tokens is missing")
    teacher_parts, teacher_unknown = rename(teacher) if teacher else ({}, ())
    config = encoder_config(model_cfg, modality, encoder, parts.get("positions", {}), source)
    return Weights(
        source,
        config,
        _one_scale_a_head(encoder, config),
        _one_scale_a_head(teacher_parts["encoder"], config) if teacher else None,
        decoder_config(model_cfg, modality, decoder, source) if decoder else None,
        decoder,
        parts.get("reconstruction"),
        parts.get("head"),
        (*unknown, *(f"_ema.{key}" for key in teacher_unknown)),
    )


def _modality_of(state: Mapping[str, Any], source: str) -> Modality:
    """The one that the model was trained on, as the names of its weights say."""
    found = {match[1].lower() for key in state if (match := _OF_MODALITY.match(key))}
    if len(found) != 1:
        what = f"encoders of {' and '.join(sorted(found))}" if found else "no modality_encoders.*.local_encoder"
        raise ValueError(f"{source} is {NOT_OURS}{' of one modality' if found else ''}: it has {what}")
    return cast(Modality, found.pop())


def _one_scale_a_head(encoder: State, config: EncoderConfig) -> State:
    """The encoder with a scale of its biases by distance for each head, where the file has one for all of them."""
    scale = encoder.get("alibi.scale")
    if scale is None or scale.numel() not in (1, config.num_heads):
        return encoder
    return {**encoder, "alibi.scale": scale.reshape(1, 1, -1, 1, 1).expand(1, 1, config.num_heads, 1, 1).clone()}


def _refuse_a_shared_scale(modality: Any, where: str, purpose: Purpose) -> None:
    """One scale for all heads is the same as many, until it learns."""
    per_head = section(modality, "learned_alibi_scale_per_head")
    learned = section(modality, "use_alibi_encoder") and section(modality, "learned_alibi_scale")
    if learned and not per_head and purpose != "inference":
        key = f"{where}.learned_alibi_scale_per_head"
        raise ValueError(f"{key} is {per_head}, only True is computed here for {purpose} (it can be opened for inference)")


def model_section(cfg: Mapping[str, Any], source: str) -> tuple[Mapping[str, Any], str]:
    """The pre-trained model's part of a whole fairseq configuration, and where it is; a fine-tuned file keeps it inside its
    own."""
    model, where = section(cfg, "model"), _MODEL
    if model is not None and not isinstance(model, Mapping):
        raise ValueError(f"{source}: its configuration has {type(model).__name__} where cfg.model is expected")
    nested = section(model, "pretrained_model_args", "model")
    if isinstance(nested, Mapping):
        model, where = nested, f"{_MODEL}.pretrained_model_args.model"
    if section(model, "num_heads") is None:
        raise ValueError(f"{source}: its configuration has no cfg.model.num_heads")
    return model or {}, where


def _described(cfg: Any, content: Mapping[str, Any], weights: Weights, purpose: Purpose) -> Weights:
    """The weights with front-end and classes, as far as the public trainer's configuration says them."""
    task, model, source, encoder = section(cfg, "task"), section(cfg, "model"), weights.source, weights.own_encoder
    _check_task(task, source, purpose)
    if isinstance(encoder.front_end, WaveformConfig) and task is not None:
        normalize = as_kind(section(task, "normalize") or False, bool, f"{source}: cfg.task.normalize")
        encoder = replace(encoder, front_end=replace(encoder.front_end, normalize=normalize))
    features, num_frames = None, section(task, "target_length")
    if num_frames is not None and encoder.front_end is None and section(task, "audio_mae") is not False:
        mean, std = [AUDIOSET, *(of for name, of in NORMALIZATION.items() if section(task, name) is True)][-1]
        features = front_end_of(num_frames, encoder, f"{source}: cfg.task.target_length", mean=mean, std=std)
    pooling = _pooling(section(model, "prediction_mode"), source)
    if weights.head and pooling == "cls" and not encoder.cls_token:
        raise ValueError(f"{source}: cfg.model.prediction_mode is CLS_TOKEN, but num_extra_tokens is 0")
    log_keys = section(cfg, "criterion", "log_keys")
    one_class = (
        section(model, "audio_mae") is False
        or any(section(model, name) is True for name in NORMALIZATION)
        or (isinstance(log_keys, list) and "correct" in log_keys)
    )
    names = _class_names(section(content.get("task_state"), "labels"), source) if weights.head else ()
    return weights._replace(
        encoder=encoder, features=features, class_names=names, multi_label=not one_class, pooling=pooling
    )


def _check_task(task: Any, source: str, purpose: Purpose) -> None:
    """Refuse a task whose data sets make something else of a clip than ours."""
    name = section(task, "_name")
    if name is None:
        return
    if not isinstance(name, str) or name not in TASK_KEYS:
        known = ", ".join(TASK_KEYS)
        raise ValueError(f"{source}: cfg.task._name is {shown(name)}, only {known} can be opened")
    check_keys(task, TASK_KEYS[name], f"{source}: cfg.task", purpose)


def _pooling(mode: Any, source: str) -> Pooling:
    """What the public enum's member, or its name, stands for; the public default is the CLS token."""
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
        numbers = {int(number): name for name, number in labels.items()}
    except (TypeError, ValueError):
        raise ValueError(f"{source}: task_state.labels must be a table from names to numbers") from None
    if sorted(numbers) != list(range(len(labels))):
        raise ValueError(f"{source}: task_state.labels does not number its classes from 0 without gaps")
    return read_class_names([numbers[number] for number in range(len(labels))], f"{source}: task_state.labels")
