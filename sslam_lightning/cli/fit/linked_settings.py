"""Settings that something else decides: the data module, the run's seed, or the rest of the model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

# What the data module knows and the model takes from it, under one name in both.
OF_DATA = ("num_classes", "multi_label", "class_names", "resampler")
DECIDED_ELSEWHERE = (*(f"model.{name}" for name in OF_DATA), "model.seed", "data.seed")


def refuse_linked_settings(given: Mapping[str, Any], data_settings: Collection[str], place: Callable[[str], str]) -> None:
    """Refuse settings that the user gave and that would be overwritten.

    Args:
        given: what the user gave, by whole keys.
        data_settings: names of the settings that the data module takes.
        place: where a setting was given, for the message.

    Raises:
        ValueError: naming the first such setting, and what decides instead.
    """
    for key in DECIDED_ELSEWHERE:
        if key in given:
            _, name = key.split(".")
            if name == "seed":
                raise ValueError(f"{place(key)} comes from the run: leave it out, or set seed_everything")
            instead = f", or set data.{name}" if name in data_settings else ""
            raise ValueError(f"{place(key)} comes from the data: leave it out{instead}")


def settle_idle_settings(model: Any, given: Mapping[str, Any], place: Callable[[str], str]) -> None:
    """Refuse settings that the user gave and that have no effect next to the model's others; drop such a default.

    Args:
        model: the whole settings of the model, by attributes.
        given: what the user gave, by whole keys.
        place: where a setting was given, for the message.

    Raises:
        ValueError: naming the setting, and what to do.
    """
    if model.get("frozen_encoder"):
        if given.get(key := "model.optimizer.layer_decay", 1) != 1:
            raise ValueError(
                f"{place(key)} has no effect on a frozen encoder: set it to 1, as overlays/linear does, or set "
                "model.frozen_encoder to false"
            )
        model.optimizer.layer_decay = 1.0  # the default is for an encoder that learns
    if given.get(key := "model.init_encoder") == "teacher" and model.get("init_from") is None:
        raise ValueError(f"{place(key)} has no effect without a checkpoint: leave it out, or set model.init_from")
