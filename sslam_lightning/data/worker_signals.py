"""Signals that are meant for a run and not for the processes that read its data."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading


def leave_signals_to_the_run() -> None:
    """Let a loader's worker go on reading when the whole job is signalled; its parent still ends it by SIGTERM.

    Slurm and a terminal's Ctrl-C signal every process, and the run that has noted the signal wants to finish its update:
    it could not if its workers were gone. To be called in the worker.
    """
    for meant_for_the_run in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(meant_for_the_run, signal.SIG_IGN)
    parent = multiprocessing.parent_process()  # the run; where a server forks the workers, not who started them
    if parent is not None and hasattr(signal, "sigwaitinfo"):  # tells who has sent it; not on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_with, args=(parent.pid,), daemon=True, name="signals").start()


def _end_with(parent: int | None) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
