"""Threads ahead of the reader: in order, bounded, and gone when nobody reads."""

from __future__ import annotations

import threading
import time
from functools import partial

import pytest

from sslam_lightning.inference.read_ahead import read_ahead


def job(number: int, items: int = 3):
    for item in range(items):
        time.sleep(0.001 * (number % 3))
        yield number, item


@pytest.mark.parametrize("threads", [0, 1, 4])
def test_items_come_in_the_order_of_the_jobs(threads: int) -> None:
    jobs = [partial(job, number, number % 4) for number in range(20)]
    found = list(read_ahead(iter(jobs), threads, jobs_ahead=3))
    assert found == [(number, item) for number in range(20) for item in range(number % 4)]


def test_no_more_jobs_are_begun_than_asked_for() -> None:
    begun = []

    def note(number: int):
        begun.append(number)
        yield number

    items = read_ahead((partial(note, number) for number in range(100)), threads=4, jobs_ahead=5)
    assert next(items) == 0
    time.sleep(0.3)
    assert max(begun) <= 5
    items.close()
    assert max(begun) <= 9


@pytest.mark.parametrize("threads", [0, 3])
def test_an_exception_is_raised_in_its_place(threads: int) -> None:
    def fail():
        yield "before"
        raise KeyError("here")

    items = read_ahead(iter([partial(job, 0, 2), fail, partial(job, 2)]), threads, jobs_ahead=3)
    assert [next(items) for _ in range(3)] == [(0, 0), (0, 1), "before"]
    with pytest.raises(KeyError, match="here"):
        next(items)


def test_threads_end_with_the_reader() -> None:
    before = threading.active_count()
    items = read_ahead((partial(job, number, 1000) for number in range(10)), threads=3, jobs_ahead=10)
    next(items)
    assert threading.active_count() == before + 3
    items.close()
    assert threading.active_count() == before
