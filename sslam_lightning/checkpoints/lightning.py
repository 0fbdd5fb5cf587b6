"""The names of this project's own Lightning checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sslam_lightning.checkpoints.own_section import Description
from sslam_lightning.checkpoints.pickle_scan import printable
from sslam_lightning.checkpoints.settings import (
    as_kind,
    read_class_names,
    read_dataclass,
    read_decoder,
    read_features,
    read_state,
)
from sslam_lightning.checkpoints.weights import State, Weights
from sslam_lightning.models import DecoderConfig, EncoderConfig, TransformerDecoderConfig
from sslam_lightning.models.heads import Pooling
from sslam_lightning.types import ResamplerName

_PREFIXES = ("student.", "encoder.", "teacher.encoder.", "decoder.", "reconstruction_head.", "contrast_head.", "head.")
CONFIG_KEY = "transformers_config"  # in checkpoints of a model of Hugging Face transformers
_TRAINING = {
    "pytorch-lightning_version",
    "epoch",
    "global_step",
    "loops",
    "place",
    "gradients_in_flight",
    "losses_in_flight",
    "package_version",
    "callbacks",
    "optimizer_states",
    "lr_schedulers",
    "MixedPrecision",
    "hparams_name",
    "hparams_type",
    "head_predicts",
    "hyper_parameters",
    "state_dict",
}
NO_WEIGHTS = ("best_score.", "score.", "mean_loss.", "centre")  # what training keeps beside them


def from_lightning(checkpoint: Mapping[str, Any], source: str, max_bytes: int | None = None) -> Weights:
    """Weights and configuration of a ``PretrainModule``, ``FinetuneModule`` or ``DetectionModule`` checkpoint.

    Raises:
        ValueError: if the file is another project's.
    """
    state = read_state(checkpoint.get("state_dict") or {}, f"{source}: state_dict", max_bytes)
    settings = checkpoint.get("hyper_parameters") or {}
    student = _part(state, "student.") or _part(state, "encoder.") or {}
    known = isinstance(settings, Mapping) and isinstance(settings.get("encoder"), Mapping)
    if "blocks.0.mlp.fc1.weight" not in student or not known:
        raise ValueError(f"{source} is a Lightning checkpoint, but not of this project: it holds no encoder")
    decoder = _part(state, "decoder.")
    of_frames = checkpoint.get("head_predicts") == "frames"  # a head of these is none for clips
    prefixes = tuple(prefix for prefix in _PREFIXES if prefix != "head." or not of_frames)
    where = f"{source}: hyper_parameters"
    weights = Weights(
        source,
        read_dataclass(EncoderConfig, settings["encoder"], f"{where}.encoder"),
        student,
        _part(state, "teacher.encoder."),
        _decoder_config(decoder, settings, where) if decoder else None,
        decoder,
        _part(state, "reconstruction_head."),
        None if of_frames else _part(state, "head."),
        (
            *(key for key in state if not key.startswith((*prefixes, *NO_WEIGHTS))),
            *(printable(str(key)) for key in checkpoint if key not in _TRAINING and not str(key).endswith("DataModule")),
        ),
        contrast=_part(state, "contrast_head."),
    )
    return Description(
        read_features(settings.get("features"), f"{where}.features"),
        read_class_names(settings.get("class_names"), f"{where}.class_names") if weights.head else (),
        as_kind(settings.get("multi_label", True), bool, f"{where}.multi_label"),
        as_kind(settings.get("pooling", "clip_token"), Pooling, f"{where}.pooling"),
        as_kind(settings.get("resampler", "torchaudio"), ResamplerName, f"{where}.resampler"),
        head_on="decoder" if weights.head and decoder else "encoder",  # fine-tuning keeps no decoder but one that is used
    ).applied_to(weights)


def _part(state: State, prefix: str) -> State | None:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)} or None


def _decoder_config(state: State, settings: Mapping[str, Any], where: str) -> DecoderConfig | TransformerDecoderConfig:
    """MAE-AST has no other decoder than of blocks; for data2vec's module it takes the convolutional one's place."""
    name = "transformer_decoder" if "mask_token" in state and settings.get("transformer_decoder") else "decoder"
    return read_decoder(state, settings.get(name) or {}, f"{where}.{name}")
