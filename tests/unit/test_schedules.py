from __future__ import annotations

import math

import pytest

from sslam_lightning.schedules import linear_anneal, warmup_cosine, warmup_linear


@pytest.mark.parametrize(
    ("update", "value"), [(0, 0.9), (1, 0.91), (5, 0.95), (9, 0.99), (10, 1.0), (11, 1.0), (10**9, 1.0)]
)
def test_linear_anneal(update: int, value: float) -> None:
    assert linear_anneal(update, 0.9, 1.0, 10) == pytest.approx(value, abs=1e-12)


def test_annealing_over_no_updates_is_at_its_end() -> None:
    assert linear_anneal(0, 0.9, 1.0, 0) == 1.0


def test_the_published_ema_decay() -> None:
    assert linear_anneal(50_000, 0.9998, 0.99999, 100_000) == pytest.approx(0.999895, abs=1e-12)
    assert linear_anneal(100_000, 0.9998, 0.99999, 100_000) == 0.99999


@pytest.mark.parametrize(
    ("update", "rate"),
    [
        (0, 1.0),  # the floor
        (2, 6.0),
        (4, 11.0),  # the peak
        (6, 1 + 5 * (1 + math.sqrt(0.5))),  # a quarter of the way down
        (8, 6.0),
        (12, 1.0),
        (13, 1.0),
        (1000, 1.0),
    ],
)
def test_warmup_and_cosine(update: int, rate: float) -> None:
    assert warmup_cosine(update, 11.0, 1.0, 4, 12) == pytest.approx(rate, abs=1e-12)


def test_the_first_update_of_a_warmup_from_zero_runs_at_rate_zero() -> None:
    assert warmup_cosine(0, 5e-4, 0.0, 53_333, 400_000) == 0.0
    assert warmup_cosine(1, 5e-4, 0.0, 53_333, 400_000) == pytest.approx(5e-4 / 53_333)


def test_without_warmup_the_first_update_runs_at_the_peak() -> None:
    assert warmup_cosine(0, 3.0, 0.0, 0, 10) == 3.0


def test_a_run_that_is_all_warmup_divides_by_nothing() -> None:
    assert warmup_cosine(10, 3.0, 1.0, 10, 10) == 3.0
    assert warmup_cosine(11, 3.0, 1.0, 10, 10) == 1.0
    assert warmup_cosine(5, 3.0, 1.0, 10, 4) == 2.0


def test_a_floor_at_the_peak_is_a_constant() -> None:
    assert {warmup_cosine(update, 2.0, 2.0, 3, 9) for update in range(12)} == {2.0}


def test_a_straight_line_behind_the_warm_up() -> None:
    rates = [warmup_linear(update, 1.0, 0.2, 2, 6) for update in range(8)]
    assert rates == pytest.approx([0.2, 0.6, 1.0, 0.8, 0.6, 0.4, 0.2, 0.2])
