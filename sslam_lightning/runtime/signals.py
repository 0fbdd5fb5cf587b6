"""Signals that ask a run to save or to end: received when they come, acted upon where a run can be left.

A signal comes in the middle of anything; a checkpoint made there would lose a batch, and a collective operation begun there
would meet other ranks in another one. So the handlers do nothing but remember.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

_noted: set[signal.Signals] = set()


def install(*signals: signal.Signals) -> None:
    """From now on these are received instead of ending the process; a second Ctrl-C still does.

    Python takes handlers only from the main thread; elsewhere nothing changes.
    """
    if threading.current_thread() is threading.main_thread():
        for wanted in signals:
            signal.signal(wanted, _note)


def received() -> frozenset[signal.Signals]:
    """What has come since the last `forget`."""
    return frozenset(_noted)


def clear(signals: Iterable[signal.Signals] = tuple(signal.Signals)) -> None:
    """These are dealt with; others may have come in the meantime."""
    _noted.difference_update(signals)


@contextmanager
def kept_from_children(*signals: signal.Signals) -> Iterator[None]:
    """Processes that are started in here never get these: a scheduler signals all processes of a job, helpers too."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # which they inherit
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _note(number: int, frame: FrameType | None) -> None:
    came = signal.Signals(number)
    if came is signal.SIGINT:
        if came in _noted:
            signal.default_int_handler(number, frame)
        # Not print: the signal may have come in the middle of another one.
        os.write(2, b"\nsslam: saving at the end of this update, then ending; Ctrl-C again ends at once\n")
    _noted.add(came)
