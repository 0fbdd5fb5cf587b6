"""Groups of processes that train together over gloo, forked from one that has imported everything once."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from processes import meet


def fork_group(ranks: int, work: Callable[[], None], outputs: Path) -> list[int]:
    """Start a process a rank; each does the work, prints into ``outputs``, and ends with code 3 if it fails."""
    place = {"NODE_RANK": "0", "MEET_IN": f"{outputs}/store", "MEET": str(ranks)}
    return [_fork(work, {**place, "LOCAL_RANK": str(rank)}, outputs / f"output{rank}.txt") for rank in range(ranks)]


def _fork(work: Callable[[], None], environment: dict[str, str], output: Path) -> int:
    if process := os.fork():
        return process
    os.environ |= environment
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    try:
        if environment["MEET"] != "1":
            meet()
        work()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(3)
    os._exit(0)


def exit_code(process: int) -> int:
    """Of a process that `fork_group` started, when it has ended; negative: the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
