"""Compares initial weights as distributions: both sides are samples, drawn from other random numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor

_UNLIKELY = 14.0  # exp(-14) is one in a million, for each of a few hundred comparisons


def assert_same_initial_weights(case: dict, construct: Callable[[], Mapping[str, Tensor]]) -> None:
    """Compare as many constructions of ours as the case has with its mean, deviation, smallest and largest value.

    Args:
        case: of the form of ``initial_weights_*``.
        construct: builds the model anew and returns its parameters by their public names.
    """
    drawn: dict[str, list[Tensor]] = {name: [] for name in case["per_parameter"]}
    for number in range(case["constructions"]):
        torch.manual_seed(number)
        ours = construct()
        assert ours.keys() == drawn.keys()
        for name, values in ours.items():
            assert list(values.shape) == case["per_parameter"][name]["shape"], name
            drawn[name].append(values.detach().double().flatten())
    for name, public in case["per_parameter"].items():
        _assert_same_distribution(torch.cat(drawn[name]), public, name)


def _assert_same_distribution(ours: Tensor, public: Mapping[str, float], name: str) -> None:
    if public["min"] == public["max"]:
        assert ours.unique().tolist() == [public["min"]], name
        return
    # Five and a half standard errors of a difference of two means, and of two deviations: one in ten million.
    size, std = len(ours), ours.std(correction=0).item()
    error = 5.5 * math.sqrt(2 / size)
    assert ours.mean().item() == pytest.approx(public["mean"], abs=error * std), name
    kurtosis = (ours - ours.mean()).pow(4).mean().item() / std**4
    assert std == pytest.approx(public["std"], abs=error * std * math.sqrt((kurtosis - 1) / 4)), name

    # The extremes tell a uniform distribution (1.73 deviations at most) from a normal one (of 300 draws, 2 and more).
    mine = {"mean": ours.mean().item(), "std": std, "min": ours.min().item(), "max": ours.max().item()}
    furthest = [max(x["max"] - x["mean"], x["mean"] - x["min"]) / x["std"] for x in (mine, public)]
    bounded = [distance < 2 for distance in furthest]
    assert bounded[0] == bounded[1], (
        f"{name}: the furthest value is {furthest[0]:.2f} deviations out, not {furthest[1]:.2f}"
    )
    # What is left between the largest draw and a bound has an exponential distribution, the largest of unbounded draws one
    # of Gumbel's, whose difference from another is logistic.
    slack = std * _UNLIKELY * (2 * math.sqrt(3) / size if bounded[0] else 1 / math.sqrt(2 * math.log(size)))
    assert mine["max"] == pytest.approx(public["max"], abs=slack), name
    assert mine["min"] == pytest.approx(public["min"], abs=slack), name
