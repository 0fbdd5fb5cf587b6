"""Writes checkpoints as a run does, killed in the middle of it, over and over. Started by test_interrupted_writes.py.

This process imports everything once; every writer is a fork of it, killed (SIGKILL) at a random moment of a write.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from itertools import count
from pathlib import Path

import torch

from sslam_lightning.checkpoints import newest_whole_checkpoint
from sslam_lightning.training.checkpoint_io import AtomicCheckpointIO

KILLS, MOST_WRITES, KEPT = 60, 4, 2
SIZE = 200_000  # numbers: a write takes some milliseconds
BEGINS, DONE = b"(", b")"


def write(folder: Path, first: int, pipe: int) -> None:
    """Step after step the newest, ``last``, and the oldest deleted behind them, as RunCheckpoint does."""
    torch.set_num_threads(1)
    io = AtomicCheckpointIO()
    for step in count(first):
        content = {"loops": {}, "global_step": step, "weights": torch.full((SIZE,), float(step))}
        for name in (f"newest-step={step}.ckpt", "last.ckpt"):
            os.write(pipe, BEGINS)
            io.save_checkpoint(content, folder / name)
            os.write(pipe, DONE)
        (folder / f"newest-step={step - KEPT}.ckpt").unlink(missing_ok=True)


def killed_writer(folder: Path, first: int, dice: random.Random, seconds: float) -> int:
    """Start a writer, kill it ``seconds`` behind the beginning of some write, and return the writes that were done."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            write(folder, first, writing)
        finally:
            os._exit(1)
    os.close(writing)
    told, begun = b"", dice.randrange(1, MOST_WRITES)
    while told.count(BEGINS) < begun:
        told += os.read(reading, 1)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    while more := os.read(reading, 4096):
        told += more
    os.close(reading)
    return told.count(DONE)


def main(folder: Path) -> None:
    """Leave what was found behind every kill."""
    checkpoints = folder / "checkpoints"
    begun = time.perf_counter()
    AtomicCheckpointIO().save_checkpoint({"loops": {}, "global_step": 0, "weights": torch.zeros(SIZE)}, folder / "try.ckpt")
    duration = time.perf_counter() - begun
    dice, step, found = random.Random(5), 1, []
    for _ in range(KILLS):
        done = killed_writer(checkpoints, step, dice, dice.uniform(0, 1.5 * duration))
        newest = newest_whole_checkpoint(checkpoints)
        content = (
            torch.load(newest.path, weights_only=True) if newest.path else {"global_step": 0, "weights": torch.zeros(1)}
        )
        found.append(
            {
                "told_done": step + done // 2 - 1,  # the newest step whose last.ckpt was told
                "found": content["global_step"],
                "is_whole": bool((content["weights"] == content["global_step"]).all()),
                "passed_over": list(newest.passed_over),
                "unfinished": len(list(checkpoints.glob(".*.unfinished"))),
            }
        )
        step = content["global_step"] + 1
    (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
