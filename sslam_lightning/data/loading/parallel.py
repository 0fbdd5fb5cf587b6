"""One function on very many jobs, in processes of its own, with the results in order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from tqdm import tqdm

Job = TypeVar("Job")
Result = TypeVar("Result")
_AHEAD = 16  # jobs a worker may be ahead of the result that is waited for

_work: Callable[[Any], Any]  # of a worker process


class WorkerDied(RuntimeError):
    """A process ended in the middle of its work."""

    for_users = True


def default_workers() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ordered_map(
    function: Callable[[Any, Job], Result],
    state: Any,
    jobs: Iterable[Job],
    workers: int,
    crashed: Callable[[Job], Result] | None = None,
) -> Iterator[Result]:
    """Yield ``function(state, job)`` for every job, in the order of the jobs.

    Args:
        function: defined in a module, so that it can be pickled.
        state: sent to every process once.
        jobs: small objects; only a few are taken ahead of the results.
        workers: processes; 0: none, everything happens here.
        crashed: the result of a job that ends its process (a decoder that crashes on a file); None: that is an error.

    Raises:
        ValueError: a negative number of workers.
        WorkerDied: a process died, out of memory for example.
    """
    if workers < 0:
        raise ValueError(f"workers must be at least 0, got {workers}")
    if isinstance(jobs, Sized):
        workers = min(workers, len(jobs))  # all are started at once
    work, remaining = partial(function, state), iter(jobs)
    if workers == 0:
        yield from map(work, remaining)
        return
    pool = _pool(workers, work)
    pending: deque[tuple[Job, Future[Result]]] = deque()
    try:
        while True:
            pending += [(job, pool.submit(_call, job)) for job in islice(remaining, _AHEAD * workers - len(pending))]
            if not pending:
                return
            job, future = pending.popleft()
            try:
                result = future.result()
            except BrokenProcessPool:
                # Any job may have ended its process: the first is tried alone, and the others are started again.
                result = _alone(work, job, crashed)
                pool = _pool(workers, work)
                pending = deque((other, pool.submit(_call, other)) for other, _ in pending)
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def progress(total: int, what: str, unit: str = "clip", done: int = 0) -> tqdm[Any]:
    """A progress bar on the error stream, if that is a terminal."""
    return tqdm(total=total, initial=done, desc=what, unit=unit, disable=None, file=sys.stderr, smoothing=0.05)


def _pool(workers: int, work: Callable[[Any], Any]) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, initializer=_begin, initargs=(work,))


def _alone(work: Callable[[Job], Result], job: Job, crashed: Callable[[Job], Result] | None) -> Result:
    with _pool(1, work) as pool:
        try:
            return pool.submit(_call, job).result()
        except BrokenProcessPool as error:
            if crashed is None:
                raise WorkerDied(f"a worker process died at {job}: out of memory, or a broken library") from error
            return crashed(job)


def _begin(work: Callable[[Any], Any]) -> None:
    global _work
    _work = work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted too, and ends its pool
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def _end_with_parent() -> None:
    """A parent that was killed cannot end its pool."""
    multiprocessing.parent_process().join()  # type: ignore[union-attr]
    os._exit(1)


def _call(job: Any) -> Any:
    return _work(job)
