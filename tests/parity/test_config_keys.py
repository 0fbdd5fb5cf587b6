"""The public code's configuration keys: each is on a list, and computed, refused by its name, or without effect."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from data2vec_step import assert_same_features, assert_same_step, public_weights, recorded_step, without_randomness
from reference_data import case_names, reference_folder

from sslam_lightning.checkpoints.keys.tables import (
    DATA2VEC2_KEYS,
    EAT_FINETUNING_KEYS,
    MAE_AST_KEYS,
    MAE_AST_LOSS_KEYS,
    MAE_AST_TASK_KEYS,
)

# The public code's configuration classes: the table of their keys, and the path that they have in it.
PUBLIC_CLASSES = {
    "Data2VecMultiConfig": (DATA2VEC2_KEYS, ""),
    "D2vModalitiesConfig": (DATA2VEC2_KEYS, "modalities."),
    "D2vImageConfig": (DATA2VEC2_KEYS, "modalities.image."),
    "D2vAudioConfig": (DATA2VEC2_KEYS, "modalities.audio."),
    "D2vTextConfig": (DATA2VEC2_KEYS, "modalities.text."),
    "D2vModalityConfig": (DATA2VEC2_KEYS, "modalities.image."),
    "D2vDecoderConfig": (DATA2VEC2_KEYS, "modalities.image.decoder."),
    "MaeImageClassificationConfig": (EAT_FINETUNING_KEYS, ""),
    "MAE_AST_Config": (MAE_AST_KEYS, ""),
    "MAE_AST_Pretraining_Config": (MAE_AST_TASK_KEYS, ""),
    "MAE_AST_Criterion_Config": (MAE_AST_LOSS_KEYS, ""),
}


def _public_classes() -> list[tuple[str, str]]:
    path = reference_folder() / "config_keys.json"
    groups = json.loads(path.read_text()) if path.is_file() else {}
    return [(group, name) for group, classes in groups.items() for name in classes]


def _paths(keys: dict, start: str) -> Iterator[str]:
    for key, value in keys.items():
        if isinstance(value, dict):
            yield from _paths(value, f"{start}{key}.")
        else:
            yield f"{start}{key}"


@pytest.mark.parametrize(("group", "name"), _public_classes())
def test_every_public_key_is_on_a_list(group, name, reference):
    table, start = PUBLIC_CLASSES[name]
    keys = json.loads(reference.file("config_keys.json").read_text())[group][name]
    paths = list(_paths(keys, start))
    assert paths
    assert [path for path in paths if path not in table] == []


@pytest.mark.parametrize("name", case_names("config_key_eat_*", "config_key_data2vec2_*"))
@pytest.mark.parametrize("purpose", ["inference", "training"])
def test_a_key_that_changes_the_arithmetic_is_computed_or_refused_by_its_name(name, purpose, reference, monkeypatch):
    arrays, case = reference.arrays(name), reference.case(name)
    try:
        weights = public_weights(case, name, purpose=purpose)
    except ValueError as error:
        assert f"{case['key']} is {case['value']!r}, only " in str(error)  # noqa: PT017
        return
    module, batch = recorded_step(case, arrays, without_randomness(weights))
    if purpose == "training":
        assert_same_step(case, module, batch, monkeypatch)
    assert_same_features(arrays, module, batch)
