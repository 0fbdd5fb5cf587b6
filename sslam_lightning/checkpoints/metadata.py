"""What a file says about a model beyond its weights; in other projects' layouts, in a section of ours."""

from __future__ import annotations

from typing import Any

from sslam_lightning.checkpoints.settings import (
    as_kind,
    as_plain,
    as_table,
    read_class_names,
    read_dataclass,
    read_features,
)
from sslam_lightning.checkpoints.weights import HeadOn, Weights
from sslam_lightning.models import EncoderConfig
from sslam_lightning.models.heads import Pooling
from sslam_lightning.types import ResamplerName

OWN_SECTION = "sslam_lightning"
_KINDS: dict[str, Any] = {
    "multi_label": bool,
    "pooling": Pooling,
    "resampler": ResamplerName,
    "head_on": HeadOn,
    "head_norm_eps": float,
}
NAMES = ("encoder", "features", "class_names", *_KINDS)


def read_metadata(settings: Any, where: str) -> dict[str, Any]:
    """The fields of :class:`Weights` that a table of settings says, but for its encoder."""
    settings = as_table(settings, where)
    found = {name: as_kind(settings[name], kind, f"{where}.{name}") for name, kind in _KINDS.items() if name in settings}
    return {
        **found,
        "features": read_features(settings.get("features"), f"{where}.features"),
        "class_names": read_class_names(settings.get("class_names"), f"{where}.class_names"),
    }


def with_own_section(weights: Weights, settings: Any, where: str) -> Weights:
    """The weights with what our section of a file says."""
    found = read_metadata(settings, where)
    if settings.get("encoder") is not None:
        found["encoder"] = read_dataclass(EncoderConfig, settings["encoder"], f"{where}.encoder")
        weights.check_architecture(found["encoder"], "by its description it")
    return weights._replace(**found)


def write_metadata(weights: Weights) -> dict[str, Any]:
    """The section of a model, as plain data."""
    return {
        "encoder": as_plain(weights.own_encoder),
        "features": None if weights.features is None else dict(weights.features),
        "class_names": list(weights.class_names),
        **{name: getattr(weights, name) for name in _KINDS},
    }
