"""One function on very many things, in processes of its own, with the results in order."""

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
from typing import Any, TypeVar

from tqdm import tqdm

Job = TypeVar("Job")
Result = TypeVar("Result")
_AHEAD = 16  # jobs a worker may be ahead of the result that is waited for

_shared: tuple[Callable[..., Any], Any] | None = None  # of a worker process


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
    """``function(state, job)`` of every job, in the order of the jobs.

    Args:
        function: of a module, so that other processes find it.
        state: handed to every process once.
        jobs: small things; only a few are taken ahead of the results.
        workers: processes; 0: none, everything happens here.
        crashed: what stands for a job that ends its process (a decoder that crashes on a file); None: that is an error.

    Raises:
        ValueError: a negative number of workers.
        WorkerDied: a process died, out of memory for example.
    """
    if workers < 0:
        raise ValueError(f"workers must be at least 0, got {workers}")
    if isinstance(jobs, Sized):
        workers = min(workers, len(jobs))  # all are started at once
    if workers == 0:
        yield from (function(state, job) for job in jobs)
        return
    remaining = iter(jobs)
    pending: deque[tuple[Job, Future[Result]]] = deque()
    pool = _pool(workers, function, state)
    try:
        while True:
            while len(pending) < _AHEAD * workers and (job := next(remaining, _END)) is not _END:
                pending.append((job, pool.submit(_call, job)))  # type: ignore[arg-type]
            if not pending:
                return
            job, future = pending.popleft()
            try:
                result = future.result()
            except BrokenProcessPool:
                # Whose fault it was is not known, so the first job is tried alone and the others anew.
                pool.shutdown(wait=False, cancel_futures=True)
                result = _alone(function, state, job, crashed)
                pool = _pool(workers, function, state)
                pending = deque((other, pool.submit(_call, other)) for other, _ in pending)
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_END: Any = object()


def progress(total: int, what: str, unit: str = "clip", done: int = 0) -> tqdm[Any]:
    """A bar on the terminal's error stream, if it is a terminal."""
    return tqdm(total=total, initial=done, desc=what, unit=unit, disable=None, file=sys.stderr, smoothing=0.05)


def _pool(workers: int, function: Callable[..., Any], state: Any) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, initializer=_begin, initargs=(function, state))


def _alone(function: Callable[..., Result], state: Any, job: Job, crashed: Callable[[Job], Result] | None) -> Result:
    with _pool(1, function, state) as pool:
        try:
            return pool.submit(_call, job).result()
        except BrokenProcessPool as error:
            if crashed is None:
                raise WorkerDied(f"a worker process died at {job}: out of memory, or a broken library") from error
            return crashed(job)


def _begin(function: Callable[..., Any], state: Any) -> None:
    global _shared
    _shared = (function, state)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted too, and ends its pool
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def _end_with_parent() -> None:
    """A parent that was killed cannot end its pool."""
    multiprocessing.parent_process().join()  # type: ignore[union-attr]
    os._exit(1)


def _call(job: Any) -> Any:
    assert _shared is not None
    function, state = _shared
    return function(state, job)
