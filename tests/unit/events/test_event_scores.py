from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest

from sslam_lightning.events import Collars, EventScores, event_scores
from sslam_lightning.events.scores import MissingScorer
from sslam_lightning.types import Event

CLASSES = ("cat", "dog")
SED_EVAL = json.loads(Path(__file__).with_name("sed_eval_cases.json").read_text())


def sed_eval_case(case: dict[str, Any]) -> EventScores:
    truth, found = (
        {name: [Event(*event) for event in events] for name, events in case[side].items()} for side in ("truth", "found")
    )
    return event_scores(truth, found, SED_EVAL["classes"], Collars(**case["collars"]))


def test_by_hand() -> None:
    """Two of three dogs and the cat are found, one of them with its end; another file has a sound that is not there."""
    truth = {
        "a": [Event(0.0, 1.0, "dog"), Event(2.0, 2.2, "dog"), Event(4.0, 8.0, "cat")],
        "b": [Event(1.0, 2.0, "dog")],
        "c": [],
    }
    found = {
        "a": [Event(0.15, 1.6, "dog"), Event(2.1, 2.5, "dog"), Event(4.0, 6.5, "cat")],
        "c": [Event(0.2, 0.8, "cat")],
        "not annotated": [Event(0.0, 9.0, "cat")],
    }
    scores = event_scores(truth, found, CLASSES)
    # Offsets may be off by 0.2 s or half the event: the first dog is by 0.6 > 0.5, the second by 0.3 > 0.2, the cat by
    # 1.5 < 2.
    assert scores.event_f1 == pytest.approx(2 * 1 / (4 + 4))
    assert scores.event_f1_macro == pytest.approx((2 * 1 / (1 + 2) + 0) / 2)
    assert scores.onset_f1 == pytest.approx(2 * 3 / (4 + 4))
    # Seconds: dog 0, 2 | 1; cat 4..7. Found: dog 0, 1, 2; cat 4..6, and second 0 of c.
    assert scores.segment_f1 == pytest.approx(2 * 5 / (7 + 7))


def test_all_right_and_all_wrong() -> None:
    truth = {"a": [Event(0.3, 1.0, "dog"), Event(0.4, 1.0, "cat")]}
    assert event_scores(truth, truth, CLASSES) == (1, 1, 1, 1)
    swapped = {"a": [event._replace(label="dog" if event.label == "cat" else "cat") for event in truth["a"]]}
    assert event_scores(truth, swapped, CLASSES)[:2] == (1.0, 1.0)  # within the collars of one another
    assert event_scores(truth, swapped, CLASSES, Collars(onset_seconds=0.05))[:3] == (0, 0, 0)
    assert event_scores(truth, {}, CLASSES) == (0, 0, 0, 0)


def test_collars_are_inclusive_and_one_event_counts_once() -> None:
    truth = {"a": [Event(1.0, 2.0, "dog"), Event(1.3, 2.3, "dog")]}
    found = {"a": [Event(1.2, 2.2, "dog")]}
    assert event_scores(truth, found, CLASSES).event_f1 == pytest.approx(2 / 3)
    # As many as possible: the first found event fits both, the second the first alone.
    found = {"a": [Event(1.15, 2.1, "dog"), Event(0.9, 2.0, "dog")]}
    assert event_scores(truth, found, CLASSES).event_f1 == 1.0
    assert event_scores({"a": [Event(0, 1, "cat")]}, {"a": [Event(0, 1, "dog")]}, CLASSES).event_f1 == 0


def test_nothing_to_find() -> None:
    assert all(math.isnan(score) for score in event_scores({"a": []}, {"a": []}, CLASSES))
    assert all(math.isnan(score) for score in event_scores({}, {}, CLASSES))
    scores = event_scores({"a": []}, {"a": [Event(0, 1, "dog")]}, CLASSES)
    assert (scores.event_f1, scores.onset_f1, scores.segment_f1) == (0, 0, 0)
    assert math.isnan(scores.event_f1_macro)  # no class is annotated


def test_events_of_no_length_do_not_count() -> None:
    """Neither where they are annotated nor where they are found, nor as a class of the mean over classes."""
    real = [Event(0.0, 1.0, "dog"), Event(3.0, 4.0, "dog")]
    nothing = [Event(2.0, 2.0, "dog"), Event(2.0, 2.0, "cat")]
    assert event_scores({"a": [*real, *nothing]}, {"a": real}, CLASSES) == (1, 1, 1, 1)
    assert event_scores({"a": real}, {"a": [*nothing, *real]}, CLASSES) == (1, 1, 1, 1)
    assert all(math.isnan(score) for score in event_scores({"a": nothing}, {"a": []}, CLASSES))


def test_many_classes_are_told_apart() -> None:
    names = tuple(map(str, range(527)))
    truth = {"a": [Event(0, 1, name) for name in names]}
    found = {"a": [Event(0, 1, name) for name in names[:500]]}
    assert event_scores(truth, found, names).event_f1 == pytest.approx(2 * 500 / 1027)


@pytest.mark.parametrize("case", SED_EVAL["cases"][:-1])
def test_scores_are_those_of_sed_eval(case: dict[str, Any]) -> None:
    """Recorded with sed_eval 0.2.1 by record_sed_eval.py, on random annotations."""
    found = sed_eval_case(case)._asdict()
    assert found == pytest.approx(case["sed_eval"], abs=1e-6)
    assert any(0 < score < 1 for score in found.values())


def test_at_the_collar_is_within_it() -> None:
    """sed_eval compares 1.258 - 1.158 = 0.10000000000000009 with 0.1 and says no; distances here are rounded to 0.1 ms."""
    case = SED_EVAL["cases"][-1]
    assert case["sed_eval"]["onset_f1"] == 0
    assert sed_eval_case(case).onset_f1 == 1


def test_bad_collars() -> None:
    with pytest.raises(ValueError, match=r"collars must be positive and offset_share not negative, got Collars\(onset_sec"):
        Collars(onset_seconds=0)


def test_without_mir_eval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mir_eval", None)
    with pytest.raises(MissingScorer, match=r"event scores need mir_eval .*: pip install 'sslam-lightning\[sed\]'"):
        event_scores({"a": []}, {"a": []}, CLASSES)
