"""The public code's configuration keys: each is on a list of the importer."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from reference_data import reference_folder

from sslam_lightning.checkpoints.config_keys import PUBLIC_CLASSES


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
