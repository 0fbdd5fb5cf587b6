"""Signals that are meant for a run and not for the processes that read its data."""

from __future__ import annotations

import os
import signal
import threading


def leave_signals_to_the_run(worker: int = 0) -> None:
    """Let a loader's worker go on reading when the whole job is signalled; its parent still ends it by SIGTERM.

    Slurm and a terminal's Ctrl-C signal every process, and the run that has noted the signal wants to finish its update:
    it could not if its workers were gone. To be called in the worker, as its ``worker_init_fn``.
    """
    for meant_for_the_run in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(meant_for_the_run, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # tells who has sent it; not on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True, name="signals").start()


def _end_with(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
