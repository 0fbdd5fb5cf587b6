from __future__ import annotations

import pytest
import torch

from sslam_lightning.events import EventDecoding
from sslam_lightning.events.decoding import median_filter
from sslam_lightning.types import Event


def column(text: str) -> torch.Tensor:
    return torch.tensor([[character == "1"] for character in text])


def test_threshold() -> None:
    probabilities = torch.tensor([[0.2, 0.5], [0.6, 0.51]])
    assert EventDecoding().active(probabilities).tolist() == [[False, False], [True, True]]
    assert EventDecoding(threshold=0.1).active(probabilities).all()


@pytest.mark.parametrize(
    ("width", "before", "after"),
    [
        (1, "0101", "0101"),
        (3, "0110111", "0111111"),
        (3, "0001000", "0000000"),
        (3, "1000001", "1000001"),  # the ends go on
        (5, "0011100", "0011100"),
        (5, "0011011000", "0001110000"),
    ],
)
def test_median_filter(width: int, before: str, after: str) -> None:
    assert torch.equal(median_filter(column(before), width), column(after))


def test_the_median_filter_commutes_with_the_threshold() -> None:
    """A median of 0 and 1 is what a median of probabilities is on one side of the threshold."""
    probabilities = torch.rand(50, 1)
    inside = probabilities.unfold(0, 5, 1).median(dim=-1).values > 0.5
    assert torch.equal(median_filter(probabilities > 0.5, 5)[2:-2], inside)


def test_lengths_in_seconds() -> None:
    decoding = EventDecoding(median_seconds=0.5)
    assert [decoding.median_frames(seconds) for seconds in (0.1, 0.16, 0.2, 0.5, 1.0)] == [5, 3, 3, 1, 1]
    assert EventDecoding().median_frames(0.16) == 1


def test_events_of_a_recording() -> None:
    active = torch.cat([column("0111000"), column("1000011")], dim=1)
    everything = EventDecoding().events(active, 0.2, ("cat", "dog"))
    assert everything == [
        Event(0.2, pytest.approx(0.8), "cat"),
        Event(0.0, 0.2, "dog"),
        Event(1.0, pytest.approx(1.4), "dog"),
    ]
    assert [event.label for event in EventDecoding(min_seconds=0.6).events(active, 0.2, ("cat", "dog"))] == ["cat"]
    assert EventDecoding().events(torch.zeros(0, 2).bool(), 0.2, ("cat", "dog")) == []


def test_bad_settings() -> None:
    with pytest.raises(ValueError, match=r"threshold must lie in \[0, 1\), got 1"):
        EventDecoding(threshold=1)
    with pytest.raises(ValueError, match=r"must not be negative, got EventDecoding\(threshold=0\.5, median_seconds=-1"):
        EventDecoding(median_seconds=-1)
