"""Settings that something else decides: the data module those of the model, the run's seed all others."""

from __future__ import annotations

from collections.abc import Collection

from sslam_lightning.cli.command_line import CommandLine

# What the data module knows and the model takes from it, under one name in both.
OF_DATA = ("num_classes", "multi_label", "class_names", "resampler")

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
    for part in ("model", "data"):
        for place in given.places(f"{part}.seed"):
            raise ValueError(f"{place} comes from the run: leave it out, or set seed_everything")
