from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from sslam_lightning.data import EventTableDataModule
from sslam_lightning.data.modules.sets.event_table import find_recordings
from sslam_lightning.types import Event

DESED = "filename\tonset\toffset\tevent_label\na.wav\t0.1\t0.3\tSpeech\na.wav\t0.2\t0.5\tDog\nb.wav\t\t\t\n"


@pytest.fixture
def root(tmp_path: Path, write_sound: Callable[..., Path]) -> Path:
    for name in ("train/a.wav", "train/b.wav", "train/unlisted.wav", "val/c.wav"):
        write_sound(f"set/audio/{name}", seconds=0.6)
    (tmp_path / "set/train.tsv").write_text(DESED)
    (tmp_path / "set/val.tsv").write_text("filename\tonset\toffset\tevent_label\nc.wav\t0.0\t0.6\tCat\n")
    return tmp_path / "set"


def module(root: Path, **settings: object) -> EventTableDataModule:
    settings = {"train_events": "train.tsv", "train_audio": "audio/train", "num_workers": 0, **settings}
    return EventTableDataModule(root, **settings)


def test_tables_and_folders(root: Path) -> None:
    data = module(root, val_events="val.tsv", val_audio="audio/val")
    assert data.class_names == ("Cat", "Dog", "Speech")  # of all tables
    train = data.dataset("train")
    assert list(train.recordings.names) == ["audio/train/a.wav", "audio/train/b.wav"]
    assert [train.recordings.classes(i) for i in range(2)] == [[1, 2], []]
    assert train.events(0) == [Event(0.1, 0.3, "Speech"), Event(0.2, 0.5, "Dog")]
    assert train.events(1) == []
    assert list(data.dataset("test").recordings.names) == ["audio/val/c.wav"]
    assert module(root).val_dataloader() == []


def test_audioset_strong(tmp_path: Path, write_sound: Callable[..., Path]) -> None:
    """Ids of films and milliseconds, machine ids as labels, and their names in another table."""
    write_sound("as/train/Y--4gqARaEJE_0.000_10.000.wav", seconds=0.5)
    write_sound("as/train/s9d-2nhuJCQ_30000.wav", seconds=0.5)
    table = tmp_path / "as/audioset_train_strong.tsv"
    table.write_text(
        "segment_id\tstart_time_seconds\tend_time_seconds\tlabel\n"
        "--4gqARaEJE_0\t0.000\t0.400\t/m/068hy\ns9d-2nhuJCQ_30000\t0.1\t0.237\t/m/053hz1\n"
    )
    (tmp_path / "as/mid_to_display_name.tsv").write_text("/m/068hy\tDomestic animals, pets\n/m/053hz1\tCheering\n")
    data = EventTableDataModule(tmp_path / "as", table.name, "train", label_names="mid_to_display_name.tsv", num_workers=0)
    assert data.class_names == ("Cheering", "Domestic animals, pets")
    train = data.dataset("train")
    assert list(train.recordings.names) == ["train/Y--4gqARaEJE_0.000_10.000.wav", "train/s9d-2nhuJCQ_30000.wav"]
    assert train.events(1) == [Event(0.1, 0.237, "Cheering")]


def test_names_of_recordings() -> None:
    files = ["a.wav", "deep/b.flac", "Y-abcdefghij_30.000_40.000.wav"]
    asked = ["a", "a.wav", "b", "deep/b.flac", "-abcdefghij_30000", "-abcdefghij_40000", "c_7"]
    assert find_recordings(asked, files) == {
        "a": "a.wav",
        "a.wav": "a.wav",
        "b": "deep/b.flac",
        "deep/b.flac": "deep/b.flac",
        "-abcdefghij_30000": files[2],
    }


def test_a_name_that_several_recordings_have_is_refused() -> None:
    files = ["a.wav", "deep/a.wav"]
    assert find_recordings(["deep/a", "a.wav"], files) == {"deep/a": "deep/a.wav", "a.wav": "a.wav"}
    with pytest.raises(ValueError, match=r"^a may be a\.wav or deep/a\.wav$"):
        find_recordings(["a"], files)


def test_what_is_missing_is_said(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(FileNotFoundError, match=r"other\.tsv does not exist: events come as a table \(filename, onset"):
        module(root, train_events="other.tsv")
    with pytest.raises(ValueError, match=r"val_events and val_audio go together, got val\.tsv and None"):
        module(root, val_events="val.tsv")
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*audio/gone: events come as a table"):
        module(root, train_audio="audio/gone").make_dataset("train")
    (root / "audio/train/a.wav").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"train\.tsv: 1 of 2 recordings are not in .*audio/train, the first is a\.wav"
    ):
        module(root).make_dataset("train")
    with caplog.at_level(logging.WARNING):
        assert list(module(root, missing_files="skip").dataset("train").recordings.names) == ["audio/train/b.wav"]
    assert "1 of 2 recordings are not in" in caplog.text
    (root / "names.tsv").write_text("Dog\n")
    with pytest.raises(ValueError, match=r"names\.tsv: expected label<TAB>name a line, got \['Dog'\]"):
        module(root, label_names="names.tsv")
