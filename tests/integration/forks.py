"""Groups of processes that train together over gloo, forked from one that has imported everything once."""

from __future__ import annotations

import os
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path


def fork_group(ranks: int, work: Callable[[], None], outputs: Path) -> list[int]:
    """Start a process a rank; each does the work, prints into ``outputs``, and ends with code 3 if it fails."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return [_fork(work, rank, port, outputs / f"output{rank}.txt") for rank in range(ranks)]


def _fork(work: Callable[[], None], rank: int, port: int, output: Path) -> int:
    if process := os.fork():
        return process
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0", "LOCAL_RANK": str(rank)}
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    try:
        work()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(3)
    os._exit(0)


def exit_code(process: int) -> int:
    """Of a process that `fork_group` started, when it has ended; negative: the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
