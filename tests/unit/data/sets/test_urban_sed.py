"""URBAN-SED, whose recordings have a text and a JAMS file each."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sslam_lightning.data import EventTableDataModule
from sslam_lightning.types import Event

PARTS = {"train": ("soundscape_train0", "soundscape_train1"), "validate": ("soundscape_validate0",), "test": ("t0",)}


def jams(*events: tuple[float, float, str, str]) -> str:
    data = [
        {"time": time, "duration": length, "value": {"label": label, "role": role}} for time, length, label, role in events
    ]
    return json.dumps({"annotations": [{"namespace": "scaper", "data": data}], "file_metadata": {}})


@pytest.fixture
def root(tmp_path: Path, write_sound: Callable[..., Path]) -> Path:
    for part, names in PARTS.items():
        (tmp_path / "urban/annotations" / part).mkdir(parents=True)
        for name in names:
            write_sound(f"urban/audio/{part}/{name}.wav", seconds=1.0)
            (tmp_path / f"urban/annotations/{part}/{name}.txt").write_text("0.100\t0.400\tsiren\n0.200\t0.900\tdog_bark\n")
    return tmp_path / "urban"


def urban_sed(root: Path, **settings: object) -> EventTableDataModule:
    folders = {"train": "train", "val": "validate", "test": "test"}
    paths = {f"{split}_audio": f"audio/{part}" for split, part in folders.items()}
    paths |= {f"{split}_events": f"annotations/{part}" for split, part in folders.items()}
    return EventTableDataModule(root, **paths, **settings)


def test_three_parts_with_tags_and_events(root: Path) -> None:
    data = urban_sed(root, num_workers=0)
    assert (data.class_names, data.multi_label) == (("dog_bark", "siren"), True)
    siren, dog = data.class_names.index("siren"), data.class_names.index("dog_bark")
    assert {split: len(data.dataset(split)) for split in ("train", "val", "test")} == {"train": 2, "val": 1, "test": 1}
    (batch,) = data.val_dataloader()
    assert batch.names == ("audio/validate/soundscape_validate0.wav",)
    assert batch.labels[0].nonzero().flatten().tolist() == [dog, siren]
    assert batch.events.class_index.tolist() == [[siren, dog]]
    assert batch.events.onset_seconds[0].tolist() == pytest.approx([0.1, 0.2])
    assert batch.events.offset_seconds[0].tolist() == pytest.approx([0.4, 0.9])


def test_jams_where_there_is_no_text(root: Path) -> None:
    path = root / "annotations/test/t0.jams"
    path.write_text(jams((0.0, 1.0, "engine_idling", "background"), (0.25, 0.5, "drilling", "foreground")))
    assert len(urban_sed(root).dataset("test").events(0)) == 2  # the text file comes first
    path.with_suffix(".txt").unlink()
    assert urban_sed(root).dataset("test").events(0) == [Event(0.25, 0.75, "drilling")]


def test_recordings_without_annotation(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "annotations/train/soundscape_train1.txt").unlink()
    assert list(urban_sed(root).dataset("train").recordings.names) == ["audio/train/soundscape_train0.wav"]
    assert "1 of 2 recordings have no annotation and are ignored" in caplog.text


def test_annotations_next_to_recordings_of_one_name(tmp_path: Path, write_sound: Callable[..., Path]) -> None:
    for client in ("one", "two"):
        write_sound(f"set/train/{client}/scene.wav", seconds=0.6)
        (tmp_path / f"set/train/{client}/scene.txt").write_text(f"0.0\t0.2\t{client}\n")
    data = EventTableDataModule(tmp_path / "set", "train", "train")
    assert [data.dataset("train").events(file)[0].label for file in range(2)] == ["one", "two"]
