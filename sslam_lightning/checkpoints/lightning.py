"""The names of this project's own Lightning checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from sslam_lightning.checkpoints.weights import State, Weights
from sslam_lightning.models import DecoderConfig, EncoderConfig


def from_lightning(checkpoint: Mapping[str, Any], source: str) -> Weights:
    """Weights and configuration of a ``PretrainModule`` or ``FinetuneModule`` checkpoint.

    Raises:
        ValueError: if the file is another project's.
    """
    state: State = checkpoint.get("state_dict") or {}
    settings = checkpoint.get("hyper_parameters") or {}
    student = _part(state, "student.") or _part(state, "encoder.") or {}
    known = isinstance(settings, Mapping) and isinstance(settings.get("encoder"), (Mapping, EncoderConfig))
    if "clip_token" not in student or not known:
        raise ValueError(f"{source} is a Lightning checkpoint, but not of this project: it holds no encoder")
    decoder = _part(state, "decoder.")
    taken = ("student.", "encoder.", "teacher.encoder.", "decoder.", "reconstruction_head.", "head.")
    return Weights(
        source,
        _config(EncoderConfig, settings["encoder"]),
        student,
        _part(state, "teacher.encoder."),
        _config(DecoderConfig, settings.get("decoder") or {}) if decoder else None,
        decoder,
        _part(state, "reconstruction_head."),
        _part(state, "head."),
        tuple(key for key in state if not key.startswith(taken)),
        settings.get("features"),
        tuple(settings.get("class_names") or ()),
        settings.get("multi_label", True),
        settings.get("pooling", "clip_token"),
        settings.get("resampler", "torchaudio"),
    )


def _part(state: State, prefix: str) -> State | None:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)} or None


def _config(kind: type, settings: Any) -> Any:
    if isinstance(settings, kind):
        return settings
    return kind(**{f.name: settings[f.name] for f in fields(kind) if f.name in settings})
