from __future__ import annotations

import torch

from sslam_lightning.events import frame_labels, frames_to_events
from sslam_lightning.types import Events


def events(*clips: list[tuple[int, float, float]]) -> Events:
    """Clips of (class, onset, offset), filled up with sounds of no length."""
    most = max(map(len, clips))
    table = torch.tensor([[*clip, *[(0, 0.0, 0.0)] * (most - len(clip))] for clip in clips], dtype=torch.float64)
    return Events(table[..., 0].long(), table[..., 1].float(), table[..., 2].float())


def runs(labels: torch.Tensor) -> list[list[str]]:
    """The frames of every class of every clip as text."""
    return [["".join(str(int(x)) for x in column) for column in clip.T] for clip in labels]


def test_events_become_frames() -> None:
    clips = events([(0, 0.24, 0.76), (1, 0.0, 0.5), (0, 0.5, 0.95)], [(1, 0.85, 1.6)])
    assert runs(frame_labels(clips, 5, 2, 0.2)) == [["01111", "11000"], ["00000", "00001"]]
    assert runs(frame_labels(clips, 5, 2, 0.2, "outward")) == [["01111", "11100"], ["00000", "00001"]]


def test_a_short_event_has_the_frame_of_its_middle() -> None:
    clips = events([(0, 0.25, 0.29), (1, 0.39, 0.45)])
    assert runs(frame_labels(clips, 4, 2, 0.2)) == [["0100", "0010"]]
    assert runs(frame_labels(clips, 4, 2, 0.2, "outward")) == [["0100", "0110"]]


def test_events_of_one_class_may_overlap_and_silence_leaves_no_trace() -> None:
    clips = events([(0, 0.0, 0.8), (0, 0.2, 0.4), (1, 0.6, 0.6)], [])
    assert runs(frame_labels(clips, 5, 2, 0.2)) == [["11110", "00000"], ["00000", "00000"]]
    nothing = Events(torch.zeros(2, 0, dtype=torch.int64), torch.zeros(2, 0), torch.zeros(2, 0))
    assert not frame_labels(nothing, 3, 4, 0.2).any()


def test_frames_become_events_and_frames_again() -> None:
    active = torch.rand(40, 3) > 0.5
    class_index, onset, offset = frames_to_events(active, 0.25)
    assert len(class_index) > 10
    assert bool((offset > onset).all())
    again = frame_labels(Events(class_index[None], onset[None], offset[None]), 40, 3, 0.25)[0]
    assert torch.equal(again.bool(), active)
    alone = frames_to_events(torch.tensor([[0, 1], [1, 1], [1, 0]]).bool(), 0.5)
    assert [column.tolist() for column in alone] == [[0, 1], [0.5, 0.0], [1.5, 1.0]]
    assert [len(column) for column in frames_to_events(torch.zeros(0, 3).bool(), 0.5)] == [0, 0, 0]
