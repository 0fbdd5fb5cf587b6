"""Suites that say "as published" are the recipes of configs/finetune, to the last switch."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from jsonargparse import ArgumentParser

from sslam_lightning.evaluation import FineTuning, read_suite
from sslam_lightning.evaluation.settings import deep_merge
from sslam_lightning.runtime.configs import config_folder
from sslam_lightning.training import FinetuneModule

FOLDER = config_folder()
OF_RUNS = ("encoder", "features", "init_from", "num_classes", "multi_label")  # from the checkpoint, the suite and the data
RECIPES = {  # suite -> recipe
    "audioset_20k": "audioset_20k",
    "audioset_2m": "audioset_2m",
    "esc50": "esc50",
    "speech_commands_v1": "speech_commands_v2",
    "speech_commands_v2": "speech_commands_v2",
    "spass": "spass",
    "urban_sed": "spass",
    "idmt_desed_fl": "spass",
}
ONE_LABEL = ("esc50", "speech_commands_v1", "speech_commands_v2")


def recipe(*names: str) -> dict[str, Any]:
    layered: dict[str, Any] = {}
    for name in names:
        layered = deep_merge(layered, yaml.safe_load((FOLDER / f"{name}.yaml").read_text()))
    return layered


def check(suite: str, protocol: str, wanted: dict[str, Any]) -> None:
    read = read_suite(suite, FOLDER / "downstream")
    found = read.build_protocol(protocol)
    assert isinstance(found, FineTuning)
    model = wanted["model"]["init_args"]
    assert found.updates == wanted["trainer"]["max_steps"]
    assert found.batch_size == wanted["data"]["init_args"]["batch_size"]
    assert found.drop_path == model["encoder"]["drop_path_end"]
    assert found.trainer["precision"] == wanted["trainer"]["precision"]
    ours, theirs = _whole(found.model), _whole({name: value for name, value in model.items() if name not in OF_RUNS})
    if suite in ONE_LABEL:  # the labels of a clip sum to one, so either divisor is the same
        del ours["bce_reduction"], theirs["bce_reduction"]
    assert ours == theirs


@pytest.mark.parametrize(("suite", "name"), RECIPES.items())
def test_fine_tuning_is_the_recipe(suite, name):
    check(suite, "finetune", recipe(f"finetune/{name}"))


@pytest.mark.parametrize(("suite", "name"), [pair for pair in RECIPES.items() if pair[0] != "audioset_2m"])
def test_the_published_linear_evaluation_is_the_recipe_with_the_published_overlays(suite, name):
    accidents = ("finetune", "linear") if name == "esc50" else ("finetune", "mixup", "linear")
    check(suite, "linear_published", recipe(f"finetune/{name}", *(f"overlays/as_published/{each}" for each in accidents)))


def _whole(settings: dict[str, Any]) -> dict[str, Any]:
    """With every default, so that what is left out and what is said count alike."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(FinetuneModule, "model")
    return parser.parse_object({"model": settings}).model.as_dict()
