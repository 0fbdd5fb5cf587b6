"""The same three soundscapes, laid out in every way in which sets of them are handed out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest

from sslam_lightning.data import ScaperDataModule
from sslam_lightning.data.sets.scaper import _split_of
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
    """Names come again with every client of a federation."""
    for name, split in SPLIT.items():
        sound(f"set/{split}_clients/{name}/scene.wav", seconds=0.6)
        put(root / f"{split}_clients/{name}/annotation/scene.txt", text(name))
    put(root / "clients.csv", "client,device\na,phone\n")


@pytest.mark.parametrize("layout", [beside, in_folders_of_their_own, of_clients])
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


@pytest.mark.parametrize(
    ("folder", "split"),
    [
        ("TRAIN/a", "train"),
        ("trainClients/3", "train"),
        ("train/client1/test", "test"),
        ("validation/eval_dcase", "val"),
        ("DESED_eval_and_train/train", "train"),
        ("testing", "test"),
        ("docs", None),
        ("restrained", None),
    ],
)
def test_the_split_of_a_folder(folder: str, split: str | None) -> None:
    assert _split_of(PurePosixPath(folder)) == split


def test_what_is_left_out_is_told(tmp_path: Path, write_sound: Write, caplog: pytest.LogCaptureFixture) -> None:
    beside(tmp_path / "set", write_sound)
    write_sound("set/soundbank/dog.wav", seconds=0.6)
    write_sound("set/train/weak.wav", seconds=0.6)
    data = ScaperDataModule(tmp_path / "set", missing_files="skip")
    assert list(data.dataset("train").recordings.names) == ["train/a.wav", "train/b.wav"]
    for told in (
        r"set: 1 recordings are in no split and are ignored, the first is soundbank/dog\.wav",
        r"set: 1 of 4 recordings have no events, the first is train/weak\.wav; they are skipped",
    ):
        assert re.search(told, caplog.text), told


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


def test_a_set_without_any_event_is_refused(tmp_path: Path, write_sound: Write) -> None:
    write_sound("set/train/a.wav", seconds=0.6)
    put(tmp_path / "set/train/a.txt", "")
    with pytest.raises(ValueError, match=r"set: there is no event in any of its recordings"):
        ScaperDataModule(tmp_path / "set")
    (tmp_path / "set/train/a.txt").write_bytes("0.0\t0.1\tT\xfcr\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"a\.txt: not a table in UTF-8"):
        ScaperDataModule(tmp_path / "set")
