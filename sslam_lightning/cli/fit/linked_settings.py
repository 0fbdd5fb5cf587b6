"""Settings of the model that something else decides: the data module, or the rest of the model."""

from __future__ import annotations

import inspect
from pkgutil import resolve_name
from typing import Any

# What the data module knows and the model takes from it, under one name in both.
OF_DATA = ("num_classes", "multi_label", "class_names", "resampler")


def refuse_linked_settings(model: Any) -> None:
    """Raise ValueError for the first setting of a model (``class_path``, ``init_args``) that the data would overwrite."""
    parameters = inspect.signature(resolve_name(model.class_path)).parameters
    for name in OF_DATA:
        if name in parameters and model.init_args.get(name) != parameters[name].default:
            raise ValueError(f"model.{name} comes from the data: leave it out, or set it for the data module")


def settle_idle_settings(model: Any) -> None:
    """Refuse settings that have no effect next to the model's others; drop such a default.

    Args:
        model: ``class_path`` and ``init_args``.

    Raises:
        ValueError: naming the setting, and what to do.
    """
    settings, parameters = model.init_args, inspect.signature(resolve_name(model.class_path)).parameters
    if settings.get("frozen_encoder"):
        default = parameters["optimizer"].default.layer_decay  # for an encoder that learns
        if settings.optimizer.layer_decay not in (1, default):
            raise ValueError(
                "model.optimizer.layer_decay has no effect on a frozen encoder: set it to 1, as "
                "configs/overlays/linear.yaml does, or set model.frozen_encoder to false"
            )
        settings.optimizer.layer_decay = 1.0
    if settings.get("init_encoder") == "teacher" and settings.get("init_from") is None:
        raise ValueError("model.init_encoder has no effect without a checkpoint: leave it out, or set model.init_from")
