"""The same three soundscapes, laid out in every way in which sets of them are handed out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sslam_lightning.data import ScaperDataModule
from sslam_lightning.types import Event

EVENTS = {"a": [Event(0.1, 0.3, "Speech"), Event(0.2, 0.5, "Dog")], "b": [Event(0.0, 0.4, "Cat")], "c": []}
SPLIT = {"a": "train", "b": "train", "c": "validation"}
Write = Callable[..., Path]


def text(name: str) -> str:
    return "".join(f"{onset}\t{offset}\t{label}\n" for onset, offset, label in EVENTS[name])


def jams(name: str) -> str:
    background = {"time": 0.0, "duration": 0.6, "value": {"label": "kitchen", "role": "background"}}
    data = [
        {"time": onset, "duration": offset - onset, "value": {"label": label, "role": "foreground"}}
        for onset, offset, label in EVENTS[name]
    ]
    return json.dumps({"annotations": [{"namespace": "scaper", "data": [background, *data]}]})


def table(*names: str, header: str = "filename\tonset\toffset\tevent_label") -> str:
    rows = [f"{name}.wav\t{onset}\t{offset}\t{label}" for name in names for onset, offset, label in EVENTS[name]]
    empty = [f"{name}.wav\t\t\t" for name in names if not EVENTS[name]]
    return "\n".join([header, *rows, *empty, ""])


def put(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def beside(root: Path, sound: Write) -> None:
    """As Scaper writes them, with the isolated events of one."""
    for name, split in SPLIT.items():
        sound(f"set/{split}/{name}.wav", seconds=0.6)
        put(root / split / f"{name}.jams", jams(name))
        put(root / split / f"{name}.txt", text(name))
    sound("set/train/a_events/foreground0_dog.wav", seconds=0.3)


def in_folders_of_their_own(root: Path, sound: Write) -> None:
    """As URBAN-SED, but for the names."""
    for name, split in SPLIT.items():
        sound(f"set/audio/{split}/{name}.wav", seconds=0.6)
        put(root / "annotations" / split / f"{name}.jams", jams(name))


def of_clients(root: Path, sound: Write) -> None:
    """Names come again with every client of a federation, and tables that hold no events lie about."""
    for name, split in SPLIT.items():
        sound(f"set/{split}_clients/{name}/scene.wav", seconds=0.6)
        put(root / f"{split}_clients/{name}/annotation/scene.txt", text(name))
    put(root / "clients.csv", "client,device\na,phone\n")


def in_tables(root: Path, sound: Write) -> None:
    """As DESED; the names are unique, so one table would do as well."""
    for name, split in SPLIT.items():
        sound(f"set/audio/{split}/soundscapes/{name}.wav", seconds=0.6)
    put(root / "metadata/train/soundscapes.tsv", table("a", "b"))
    put(root / "metadata/validation/soundscapes.tsv", table("c"))


def in_one_table(root: Path, sound: Write) -> None:
    for name, split in SPLIT.items():
        sound(f"set/{split}/{name}.wav", seconds=0.6)
    put(root / "events.csv", table("a", "b", "c").replace("\t", ","))


@pytest.mark.parametrize("layout", [beside, in_folders_of_their_own, of_clients, in_tables, in_one_table])
def test_every_layout_is_the_same_set(layout: Callable[..., None], tmp_path: Path, write_sound: Write) -> None:
    layout(tmp_path / "set", write_sound)
    data = ScaperDataModule(tmp_path / "set", num_workers=0, batch_size=2)
    assert data.class_names == ("Cat", "Dog", "Speech")
    train, test = data.dataset("train"), data.dataset("test")
    assert [train.recordings.classes(number) for number in range(2)] == [[1, 2], [0]]
    for number, name in enumerate("ab"):
        assert [event.label for event in train.events(number)] == [event.label for event in EVENTS[name]]
        for found, wanted in zip(train.events(number), EVENTS[name], strict=True):
            assert found[:2] == pytest.approx(wanted[:2])
    assert (len(train), len(test), test.events(0)) == (2, 1, [])  # validation serves as test
    (batch,) = data.test_dataloader()
    assert batch.names[0].startswith(("validation", "audio/validation"))
    assert not batch.labels.any()


def test_what_is_missing_is_said(tmp_path: Path, write_sound: Write) -> None:
    root = tmp_path / "set"
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*set: soundscapes lie below folders called train"):
        ScaperDataModule(root)
    write_sound("set/first/a.wav", seconds=0.6)
    with pytest.raises(FileNotFoundError, match=r"set holds no recordings in a folder called train: soundscapes lie"):
        ScaperDataModule(root)
    beside(root, write_sound)
    (root / "train/b.txt").unlink()
    (root / "train/b.jams").unlink()
    with pytest.raises(FileNotFoundError, match=r"set: 1 of 3 recordings have no events, the first is train/b\.wav: sound"):
        ScaperDataModule(root)
    put(root / "train/b.tsv", table("b", "a").replace("b.wav", "d.wav"))
    with pytest.raises(FileNotFoundError, match=r"b\.tsv: 1 of 2 recordings are not there, the first is d\.wav: sound"):
        ScaperDataModule(root)
    put(root / "train/b.tsv", table("b"))
    assert ScaperDataModule(root).dataset("train").events(1) == EVENTS["b"]
    put(root / "train.csv", "filename,onset,offset,event_label\nb.wav,0.0,0.2,Cat\n")
    with pytest.raises(ValueError, match=r"train/b\.tsv: b\.wav has other events than in another table of .*set"):
        ScaperDataModule(root)
    (root / "train.csv").unlink()
    put(root / "one/train/b.txt", text("b"))
    put(root / "two/train/b.txt", text("a"))
    with pytest.raises(
        ValueError, match=r"train/b\.wav: its events could be those of one/train/b\.txt or of two/train/b\.txt"
    ):
        ScaperDataModule(root)
