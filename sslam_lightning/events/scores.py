"""How well found events agree with the annotated ones.

Event-based F1 (Mesaros, Heittola and Virtanen, Applied Sciences 2016, section 3.2) asks for onsets within a collar and, in
its stricter form, offsets too; segment-based F1 (section 3.1) compares what is heard in every second. Found and annotated
events are matched by mir_eval, each with at most one and as many as possible (its `match_notes`).

The numbers are those of sed_eval with ``empty_system_output_handling="zero_score"`` (a class of which nothing is found
counts as 0), but for distances of exactly the collar: here they are rounded to 0.1 ms, and so within it; in sed_eval the
last bit of floating point decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics.functional.classification import binary_f1_score

from sslam_lightning.events.frames import frame_labels
from sslam_lightning.types import Event, Events


class MissingScorer(RuntimeError):
    """mir_eval is not installed."""

    for_users = True  # the message says it all


@dataclass(frozen=True)
class Collars:
    """What counts as agreement.

    Args:
        onset_seconds: how far an onset may be off.
        offset_seconds: how far an offset may be off,
        offset_share: or this share of the annotated event's length, whichever is more.
        segment_seconds: length of the segments of segment-based F1.
    """

    onset_seconds: float = 0.2
    offset_seconds: float = 0.2
    offset_share: float = 0.5
    segment_seconds: float = 1.0

    def __post_init__(self) -> None:
        if min(self.onset_seconds, self.offset_seconds, self.segment_seconds) <= 0 or self.offset_share < 0:
            raise ValueError(f"collars must be positive and offset_share not negative, got {self}")


class EventScores(NamedTuple):
    """All F1, in [0, 1]; not a number where there is nothing to find and nothing was found."""

    event_f1: float  # onsets and offsets, all events counted alike
    event_f1_macro: float  # the mean over the classes that are annotated
    onset_f1: float  # onsets alone
    segment_f1: float


class _Counts(NamedTuple):
    """Of every class."""

    annotated: Float[np.ndarray, "classes"]
    found: Float[np.ndarray, "classes"]
    matched: Float[np.ndarray, "classes"]

    def f1(self) -> Float[np.ndarray, "classes"]:
        """2 matches over all events of both sides."""
        total = self.annotated + self.found
        return np.divide(2 * self.matched, total, out=np.full(total.shape, np.nan), where=total > 0)


def event_scores(
    truth: Mapping[str, Sequence[Event]],
    found: Mapping[str, Sequence[Event]],
    class_names: Sequence[str],
    collars: Collars = Collars(),
) -> EventScores:
    """Compare the events of every recording of ``truth`` with those found in it; a recording not in ``found`` has none.

    Raises:
        MissingScorer: mir_eval is not installed; the message says how to.
    """
    class_of = {name: number for number, name in enumerate(class_names)}
    both = _count(truth, found, class_of, collars, with_offsets=True)
    onsets = _count(truth, found, class_of, collars, with_offsets=False)
    by_class = both.f1()[both.annotated > 0]
    return EventScores(
        event_f1=_overall(both),
        event_f1_macro=float(by_class.mean()) if len(by_class) else float("nan"),
        onset_f1=_overall(onsets),
        segment_f1=_segment_f1(truth, found, class_of, collars.segment_seconds),
    )


def _overall(counts: _Counts) -> float:
    return float(_Counts(*(column.sum(keepdims=True) for column in counts)).f1()[0])


def _count(
    truth: Mapping[str, Sequence[Event]],
    found: Mapping[str, Sequence[Event]],
    class_of: Mapping[str, int],
    collars: Collars,
    with_offsets: bool,
) -> _Counts:
    match_notes = mir_eval_transcription().match_notes
    counts = _Counts(*np.zeros((3, len(class_of))))
    for name, annotated in truth.items():
        reference, prediction = _as_notes(annotated, class_of), _as_notes(found.get(name, ()), class_of)
        np.add.at(counts.annotated, reference.class_index, 1)
        np.add.at(counts.found, prediction.class_index, 1)
        pairs = match_notes(
            reference.intervals,
            reference.pitches_hz,
            prediction.intervals,
            prediction.pitches_hz,
            onset_tolerance=collars.onset_seconds,
            offset_ratio=collars.offset_share if with_offsets else None,
            offset_min_tolerance=collars.offset_seconds,
        )
        np.add.at(counts.matched, reference.class_index[[pair[0] for pair in pairs]], 1)
    return counts


class _Notes(NamedTuple):
    class_index: np.ndarray
    intervals: Float[np.ndarray, "events 2"]
    pitches_hz: Float[np.ndarray, "events"]


def _as_notes(events: Sequence[Event], class_of: Mapping[str, int]) -> _Notes:
    """Events as mir_eval knows them: a class is a pitch, and whole tones lie between them, so none is taken for another.

    Events of no length are left out, as they are for tags and frames.
    """
    events = [event for event in events if event.offset_seconds > event.onset_seconds]
    class_index = np.array([class_of[event.label] for event in events], dtype=np.int64)
    intervals = np.array([event[:2] for event in events], dtype=np.float64).reshape(-1, 2)
    return _Notes(class_index, intervals, 2.0 ** (class_index / 6))


def _segment_f1(
    truth: Mapping[str, Sequence[Event]],
    found: Mapping[str, Sequence[Event]],
    class_of: Mapping[str, int],
    segment_seconds: float,
) -> float:
    rolls: tuple[list[Tensor], list[Tensor]] = ([], [])
    for name, annotated in truth.items():
        sides = (annotated, found.get(name, ()))
        end_seconds = max((event.offset_seconds for side in sides for event in side), default=0.0)
        for roll, side in zip(rolls, sides, strict=True):
            heard = frame_labels(
                _as_table(side, class_of), ceil(end_seconds / segment_seconds), len(class_of), segment_seconds, "outward"
            )
            roll.append(heard.flatten().long())
    target, prediction = (torch.cat(roll) if roll else torch.zeros(0, dtype=torch.int64, device="cpu") for roll in rolls)
    if not (target.any() or prediction.any()):
        return float("nan")
    return float(binary_f1_score(prediction, target))


def _as_table(events: Sequence[Event], class_of: Mapping[str, int]) -> Events:
    """One row of events."""
    return Events(
        torch.tensor([[class_of[event.label] for event in events]], dtype=torch.int64, device="cpu"),
        torch.tensor([[event.onset_seconds for event in events]], dtype=torch.float64, device="cpu"),
        torch.tensor([[event.offset_seconds for event in events]], dtype=torch.float64, device="cpu"),
    )


def mir_eval_transcription() -> Any:
    """The part of mir_eval that matches events.

    Raises:
        MissingScorer: it is not installed; the message says how to.
    """
    try:
        from mir_eval import transcription
    except ImportError as error:
        raise MissingScorer(f"event scores need mir_eval ({error}): pip install 'sslam-lightning[sed]'") from error
    return transcription
