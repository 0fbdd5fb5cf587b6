"""Makes sed_eval_cases.json: random annotations and what sed_eval (Mesaros, Heittola and Virtanen, 2016) says of them.

pip install sed_eval==0.2.1, then python tests/unit/events/record_sed_eval.py. The package itself needs no sed_eval.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

CLASSES = ["dog", "cat", "horn", "rain", "bell"]
COLLARS = [
    {"onset_seconds": 0.2, "offset_seconds": 0.2, "offset_share": 0.5, "segment_seconds": 1.0},
    {"onset_seconds": 0.1, "offset_seconds": 0.1, "offset_share": 0.2, "segment_seconds": 0.5},
]
SEEDS = (0, 2, 4)
# By hand: an onset as far away as the collar allows, and further in floating point (0.10000000000000009).
AT_THE_COLLAR = {
    "truth": {"scene": [[1.158, 1.307, "cat"]]},
    "found": {"scene": [[1.258, 1.307, "cat"]]},
    "collars": COLLARS[1],
}


def annotations(seed: int) -> dict[str, Any]:
    """Six scenes of ten seconds, with events moved, missed, doubled, mistaken and made up.

    Nothing is annotated in one scene and nothing found in another; no bell is annotated, and no rain is ever found. What is
    found lies 0.3 ms off the grid of the annotation, so that no distance is exactly a collar.
    """
    rng = np.random.default_rng(seed)
    truth: dict[str, list[Any]] = {}
    found: dict[str, list[Any]] = {}
    for number in range(6):
        name = f"scene {number}"
        truth[name], found[name] = [], []
        for _ in range(rng.integers(3, 9) if number != 4 else 0):
            onset = rng.uniform(0, 9)
            offset = min(10.0, onset + rng.choice([0.15, 0.4, 1.0, 3.0]) * rng.uniform(0.7, 1.4))
            label = str(rng.choice(CLASSES[:4]))
            truth[name].append([round(onset, 3), round(offset, 3), label])
            if number == 5 or label == "rain" or rng.random() < 0.2:
                continue
            for _ in range(1 + (rng.random() < 0.2)):
                first = max(0.0, onset + rng.normal(0, 0.15))
                last = max(first + 0.05, offset + rng.normal(0, 0.35))
                found[name].append([*_off_grid(first, last), label if rng.random() < 0.9 else "cat"])
        for _ in range(rng.integers(0, 3) if number != 5 else 0):
            onset = rng.uniform(0, 9)
            found[name].append([*_off_grid(onset, onset + rng.uniform(0.1, 2)), str(rng.choice(["bell", "dog"]))])
    return {"truth": truth, "found": found}


def _off_grid(*seconds: float) -> list[float]:
    return [round(round(time, 3) + 0.0003, 4) for time in seconds]


def sed_eval_scores(truth: dict[str, Any], found: dict[str, Any], collars: dict[str, float]) -> dict[str, float]:
    """A class, or a whole, of which nothing is found counts as 0, as ours and as in DCASE's own evaluation."""
    from dcase_util.containers import MetaDataContainer
    from sed_eval.sound_event import EventBasedMetrics, SegmentBasedMetrics

    # sed_eval has one collar for onsets and offsets.
    options = {"t_collar": collars["onset_seconds"], "empty_system_output_handling": "zero_score"}
    assert collars["onset_seconds"] == collars["offset_seconds"]
    both = EventBasedMetrics(CLASSES, percentage_of_length=collars["offset_share"], **options)
    onsets = EventBasedMetrics(CLASSES, evaluate_offset=False, **options)
    segments = SegmentBasedMetrics(CLASSES, time_resolution=collars["segment_seconds"])
    for name in truth:
        lists = [
            MetaDataContainer([{"filename": name, "onset": a, "offset": b, "event_label": c} for a, b, c in side[name]])
            for side in (truth, found)
        ]
        for metric in (both, onsets, segments):
            metric.evaluate(*lists)
    return {
        "event_f1": both.overall_f_measure()["f_measure"],
        "event_f1_macro": float(both.results_class_wise_average_metrics()["f_measure"]["f_measure"]),
        "onset_f1": onsets.overall_f_measure()["f_measure"],
        "segment_f1": float(segments.overall_f_measure()["f_measure"]),
    }


if __name__ == "__main__":
    cases = [{**annotations(seed), "collars": collars} for seed in SEEDS for collars in COLLARS] + [AT_THE_COLLAR]
    cases = [{**case, "sed_eval": sed_eval_scores(**case)} for case in cases]
    content = {"classes": CLASSES, "cases": cases}
    Path(__file__).with_name("sed_eval_cases.json").write_text(json.dumps(content) + "\n")
