"""Decoding beside the model: a few threads ahead of it, in a fixed order and in bounded memory."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

_END = object()
_WAIT_SECONDS = 0.1  # how long a thread that cannot go on takes to notice that nobody listens any more


class _Failure:
    def __init__(self, error: BaseException) -> None:
        self.error = error


def read_ahead(
    jobs: Iterable[Callable[[], Iterable[T]]], threads: int, jobs_ahead: int, items_ahead: int = 1
) -> Iterator[T]:
    """The items of the first job, then those of the second, and so on, while threads work on the next ones.

    The order does not depend on the threads. Decoders and resamplers leave the interpreter alone while they work, so
    threads are enough, and start at once.

    Args:
        jobs: each called once, in a thread, and iterated there. An exception in it is raised here, in its place.
        threads: how many jobs run at once; 0: each where its items are asked for.
        jobs_ahead: how many jobs may be under way or wait to be fetched.
        items_ahead: how many items of a job may wait.
    """
    if threads == 0:
        for job in jobs:
            yield from job()
        return
    ahead = _Ahead(iter(jobs), jobs_ahead, items_ahead)
    workers = [threading.Thread(target=ahead.work, daemon=True) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield from ahead.items()
    finally:
        ahead.stop.set()
        for worker in workers:
            worker.join()


class _Ahead:
    """What the threads share: the jobs that wait, and a queue for each that is under way, in the order of the jobs."""

    def __init__(self, jobs: Iterator[Callable[[], Iterable[Any]]], jobs_ahead: int, items_ahead: int) -> None:
        self.stop = threading.Event()
        self._jobs, self._items_ahead = jobs, items_ahead
        self._under_way: queue.Queue[Any] = queue.Queue()  # of queues
        self._taking, self._slots = threading.Lock(), threading.Semaphore(jobs_ahead)

    def items(self) -> Iterator[Any]:
        while (target := self._under_way.get()) is not _END:
            while (item := target.get()) is not _END:
                if isinstance(item, _Failure):
                    raise item.error
                yield item
            self._slots.release()

    def work(self) -> None:
        while not self.stop.is_set():
            if not self._slots.acquire(timeout=_WAIT_SECONDS):
                continue
            target: queue.Queue[Any] = queue.Queue(self._items_ahead)
            with self._taking:
                job = next(self._jobs, None)
                self._under_way.put(_END if job is None else target)
            if job is None:
                return
            try:
                if all(self._put(target, item) for item in job()):
                    self._put(target, _END)
            except BaseException as error:
                self._put(target, _Failure(error))

    def _put(self, target: queue.Queue[Any], item: Any) -> bool:
        while not self.stop.is_set():
            with contextlib.suppress(queue.Full):
                target.put(item, timeout=_WAIT_SECONDS)
                return True
        return False
