"""Settings that something else decides: the data module those of the model, the run's seed all others, a frozen encoder its
rates."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sslam_lightning.cli.command_line import CommandLine

# What the data module knows and the model takes from it, under one name in both.
OF_DATA = ("num_classes", "multi_label", "class_names", "resampler")

_OF_THE_RUN = ("model.seed", "data.seed")
DECIDED_ELSEWHERE = (*(f"model.{name}" for name in OF_DATA), *_OF_THE_RUN)

_OTHER_KEY = {"num_classes": "label_descriptors", "class_names": "label_descriptors"}


def refuse_linked_settings(given: CommandLine, data_settings: Collection[str]) -> None:
    """Look for settings, on the command line and in configuration files, that would be overwritten.

    Args:
        given: what the user gave; a checkpoint's own settings are none of it.
        data_settings: names of the settings that the data module takes.

    Raises:
        ValueError: naming the first such setting, where it was given, and what decides instead.
    """
    for name in OF_DATA:
        for place in given.places(f"model.{name}"):
            keys = [f"data.{key}" for key in (name, _OTHER_KEY.get(name)) if key in data_settings]
            raise ValueError(f"{place} comes from the data: leave it out" + (f", or set {keys[0]}" if keys else ""))
    for key in _OF_THE_RUN:
        for place in given.places(key):
            raise ValueError(f"{place} comes from the run: leave it out, or set seed_everything")


def settle_idle_settings(given: CommandLine, model: Any) -> None:
    """Refuse settings that the user gave and that have no effect next to the model's others; drop such a default.

    Args:
        given: what the user gave.
        model: the whole settings of the model, by attributes.

    Raises:
        ValueError: naming the setting, where it was given, and what to do.
    """
    optimizer = getattr(model, "optimizer", None)
    if getattr(model, "frozen_encoder", False) and getattr(optimizer, "layer_decay", 1) != 1:
        for place in given.places("model.optimizer.layer_decay"):
            raise ValueError(
                f"{place} has no effect on a frozen encoder: set it to 1, as configs/overlays/linear.yaml does, or set "
                "model.frozen_encoder to false"
            )
        optimizer.layer_decay = 1.0  # type: ignore[union-attr]  # the default is for an encoder that learns
    if getattr(model, "init_part", "student") == "teacher" and getattr(model, "init_from", "") is None:
        for place in given.places("model.init_part"):
            raise ValueError(f"{place} has no effect without a checkpoint: leave it out, or set model.init_from")
