from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sslam_lightning.data.loading.collate import collate
from sslam_lightning.data.loading.dataset import BrokenClip, RecordingDataset
from sslam_lightning.data.loading.event_dataset import Annotated, EventDataset, places_of
from sslam_lightning.data.manifests.recordings import make_recordings
from sslam_lightning.types import Event

FILES = [
    Annotated("a.wav", [Event(0.2, 0.9, "dog"), Event(0.3, 0.4, "dog"), Event(0.5, 0.5, "cat")]),
    Annotated("b.wav", []),
    Annotated("c.wav", [Event(0.0, 5.0, "cat")]),
]


@pytest.fixture
def root(tmp_path: Path, write_sound: Callable[..., Path]) -> Path:
    for file in FILES:
        write_sound(file.name, seconds=1.0)
    return tmp_path


def test_files_as_clips(root: Path) -> None:
    data = EventDataset(root, FILES, ("cat", "dog"))
    assert (len(data), list(data.places.files)) == (3, ["a.wav", "b.wav", "c.wav"])
    assert [data.recordings.classes(i) for i in range(3)] == [[1], [], [0]]  # a sound of no length is not heard
    assert data.events(0) == FILES[0].events
    assert data.events(1) == []
    batch = collate([data[0], data[1], data[2]])
    torch.testing.assert_close(batch.events.onset_seconds, torch.tensor([[0.2, 0.3], [0.0, 0.0], [0.0, 0.0]]))
    torch.testing.assert_close(batch.events.offset_seconds, torch.tensor([[0.9, 0.4], [0.0, 0.0], [5.0, 0.0]]))
    assert batch.events.class_index.tolist() == [[1, 1], [0, 0], [0, 0]]


def test_clips_of_files(root: Path) -> None:
    data = EventDataset(root, FILES, ("cat", "dog"), clip_seconds=0.4)
    assert data.places.file_of.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert data.places.start_seconds.tolist() == pytest.approx([0.0, 0.4, 0.6] * 3)
    assert [data.recordings.classes(i) for i in range(9)] == [[1], [1], [1], [], [], [], [0], [0], [0]]
    events = data[1, 1].events  # the clip from 0.4 to 0.8 s of a.wav, in epoch 1: the second dog ends where it begins
    assert events.class_index.tolist() == [1]
    assert (events.onset_seconds.item(), events.offset_seconds.item()) == (0.0, pytest.approx(0.4))


@pytest.mark.parametrize("clip_seconds", [None, 1.0])
def test_sounds_that_were_cut_away_are_not_heard(root: Path, clip_seconds: float | None) -> None:
    files = [Annotated("a.wav", [Event(0.1, 0.7, "dog"), Event(0.8, 0.9, "cat")])]
    data = EventDataset(root, files, ("cat", "dog"), clip_seconds, max_clip_seconds=0.5)
    clip = data[0]
    assert (len(clip.waveform), clip.labels.tolist()) == (8000, [0, 1])
    assert [column.tolist() for column in clip.events] == [[1], [pytest.approx(0.1)], [0.5]]


def test_broken_files_have_no_events(root: Path) -> None:
    (root / "a.wav").write_bytes(b"no sound")
    data = EventDataset(root, FILES, ("cat", "dog"))
    assert isinstance(data[0], BrokenClip)
    batch = collate([data[0], data[2]])
    assert (batch.names, batch.events.class_index.tolist()) == (("c.wav",), [[0]])


def test_places_without_events(root: Path) -> None:
    places = places_of(RecordingDataset(make_recordings(str(root), ["a.wav", "b.wav"], [[], []], ())))
    assert (list(places.files), places.file_of.tolist(), places.start_seconds.tolist()) == (
        ["a.wav", "b.wav"],
        [0, 1],
        [0, 0],
    )


def test_bad_settings(root: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.wav: the event 'dog' is none of the classes cat, cow"):
        EventDataset(root, FILES, ("cat", "cow"))
    with pytest.raises(ValueError, match="clip_seconds must be positive, got 0"):
        EventDataset(root, FILES, ("cat", "dog"), clip_seconds=0)
