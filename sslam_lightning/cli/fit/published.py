"""What a configuration changes of the published recipe of its kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import yaml

# What decides about the result; of the model everything does but the names below. Devices, accumulation and batch size
# together are the global batch, which the plan compares by itself.
_TRAINER = ("max_steps", "max_epochs", "precision", "gradient_clip_val", "gradient_clip_algorithm")
_DATA = ("batch_size", "sample_rate_hz", "resampler", "max_clip_seconds", "weighted_sampling", "samples_per_epoch")
_NOT_OF_THE_METHOD = ("init_from", "seed", "compile", "num_classes", "multi_label", "class_names", "resampler")
_ABSENT = "(none)"


class Difference(NamedTuple):
    """A setting by its key on the command line, as published and here, both as YAML."""

    key: str
    published: str
    here: str


def published_recipe(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The shipped recipe of the same method and size, and the overlays that make it the published one, by name."""
    model, data = config["model"], config["data"]
    settings = model["init_args"]
    if model["class_path"].endswith("PretrainModule"):
        if settings["mixing"]:
            return ("pretrain/sslam_base", "overlays/as_published/stage2")
        size = "large" if settings["encoder"]["dim"] > 768 else "base"
        return (f"pretrain/eat_{size}", "overlays/as_published/stage1")
    if model["class_path"].endswith("DetectionModule"):
        return ("finetune/dcase2016_task2",)
    overlays: tuple[str, ...] = ("finetune", "mixup", "linear") if settings["frozen_encoder"] else ("finetune", "mixup")
    recipe = "audioset_2m" if data["init_args"].get("weighted_sampling") else "audioset_20k"
    if data["class_path"].endswith("ESC50DataModule"):
        recipe, overlays = "esc50", tuple(name for name in overlays if name != "mixup")
    return (f"finetune/{recipe}", *(f"overlays/as_published/{name}" for name in overlays))


def differences(published: Mapping[str, Any], config: Mapping[str, Any]) -> list[Difference]:
    """Every setting of the method that differs, in the order of the keys; whole configurations with all their defaults."""
    theirs, ours = _settings(published), _settings(config)
    keys = sorted({*theirs, *ours})
    pairs = [(key, theirs.get(key, _ABSENT), ours.get(key, _ABSENT)) for key in keys]
    return [Difference(key, one, other) for key, one, other in pairs if one != other]


def _settings(config: Mapping[str, Any]) -> dict[str, str]:
    trainer, data, model = config["trainer"], config["data"], config["model"]
    chosen = {
        "trainer": {name: trainer.get(name) for name in _TRAINER},
        "data": {"class_path": data["class_path"], **{name: data["init_args"].get(name) for name in _DATA}},
        "model": {name: value for name, value in model["init_args"].items() if name not in _NOT_OF_THE_METHOD},
    }
    return dict(_flat(chosen, ""))


def _flat(settings: Mapping[str, Any], prefix: str) -> Any:
    for name, value in settings.items():
        key = prefix if name == "init_args" else f"{prefix}.{name}".lstrip(".")
        if isinstance(value, Mapping):
            yield from _flat(value, key)
        else:
            yield key, yaml.safe_dump(value, default_flow_style=True).replace("...", "").strip()
