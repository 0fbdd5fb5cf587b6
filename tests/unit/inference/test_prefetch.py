"""Threads ahead of the reader: in order, bounded, and gone when nobody reads."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from sslam_lightning.inference.pipeline import prefetch

HANGS_SECONDS = 300.0


def job(number: int, items: int = 3):
    for item in range(items):
        yield number, item


@pytest.mark.parametrize("threads", [0, 1, 4])
def test_items_come_in_the_order_of_the_jobs(threads: int) -> None:
    jobs = [partial(job, number, number % 4) for number in range(20)]
    found = list(prefetch(iter(jobs), threads, jobs_ahead=3))
    assert found == [(number, item) for number in range(20) for item in range(number % 4)]


def test_a_job_that_ends_before_those_in_front_of_it_waits_for_its_turn() -> None:
    ended = threading.Event()

    def first():
        assert ended.wait(HANGS_SECONDS)
        yield "first"

    def second():
        ended.set()
        yield "second"

    assert list(prefetch(iter([first, second]), threads=2, jobs_ahead=2)) == ["first", "second"]


def test_no_more_jobs_are_begun_than_asked_for() -> None:
    begun = [threading.Event() for _ in range(100)]

    def note(number: int):
        begun[number].set()
        yield number

    items = prefetch((partial(note, number) for number in range(100)), threads=4, jobs_ahead=5)
    for number in range(90):
        assert next(items) == number
        assert all(begun[ahead].wait(HANGS_SECONDS) for ahead in range(number + 5))
        assert not any(event.is_set() for event in begun[number + 6 :])
    items.close()
    assert not any(event.is_set() for event in begun[95:])


@pytest.mark.parametrize("threads", [0, 3])
def test_an_exception_is_raised_in_its_place(threads: int) -> None:
    def fail():
        yield "before"
        raise KeyError("here")

    items = prefetch(iter([partial(job, 0, 2), fail, partial(job, 2)]), threads, jobs_ahead=3)
    assert [next(items) for _ in range(3)] == [(0, 0), (0, 1), "before"]
    with pytest.raises(KeyError, match="here"):
        next(items)


def test_threads_end_with_the_reader() -> None:
    before = set(threading.enumerate())
    items = prefetch((partial(job, number, 1000) for number in range(10)), threads=3, jobs_ahead=10)
    next(items)
    started = set(threading.enumerate()) - before
    assert 0 < len(started) <= 3
    items.close()
    assert not any(thread.is_alive() for thread in started)
