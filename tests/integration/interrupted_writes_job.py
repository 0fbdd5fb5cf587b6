"""Writes checkpoints as a run does, killed at every point of it in turn. Started by test_interrupted_writes.py.

This process imports everything once; every writer is a fork of it. It kills itself (SIGKILL) just before or behind the call
whose turn it is, or with half of a piece on the disk, so nothing depends on how fast it is.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import torch

from sslam_lightning.checkpoints import newest_whole_checkpoint
from sslam_lightning.training.run.checkpoint_io import AtomicCheckpointIO

SIZE = 20_000  # numbers
DONE = "done"


class Points:
    """Kills the process at the point whose turn it is, and tells the name of every point before."""

    def __init__(self, turn: int, pipe: int) -> None:
        self.turn, self.pipe = turn, pipe

    def __call__(self, name: str) -> None:
        os.write(self.pipe, f"{name}\n".encode())
        if self.turn == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.turn -= 1

    def around(self, place: Any, name: str) -> None:
        """A point before and one behind every call of a function."""
        call: Callable = getattr(place, name)

        def called(*arguments: Any, **settings: Any) -> Any:
            self(f"before {name}")
            result = call(*arguments, **settings)
            self(f"behind {name}")
            return result

        setattr(place, name, called)

    def in_files(self) -> None:
        """A point in the middle of every piece of a file, with half of it on the disk, and around its end."""
        points, call = self, Path.open

        class File:
            def __init__(self, file: Any) -> None:
                self.file, self.fileno = file, file.fileno

            def __enter__(self) -> File:
                return self

            def __exit__(self, *_: object) -> None:
                self.file.close()

            def write(self, piece: Any) -> int:
                piece = bytes(piece)
                self.file.write(piece[: len(piece) // 2])
                self.file.flush()
                points("write")
                self.file.write(piece[len(piece) // 2 :])
                return len(piece)

            def flush(self) -> None:
                points("before flush")
                self.file.flush()

        def opened(path: Path, mode: str = "r", *arguments: Any, **settings: Any) -> Any:
            file = call(path, mode, *arguments, **settings)
            if "w" not in mode:
                return file
            points("open")
            return File(file)

        Path.open = opened  # type: ignore[method-assign, assignment]


def write(folder: Path, step: int, told: Callable[[str], None] = lambda _: None) -> None:
    """A step's own checkpoint, ``last``, and the one before deleted behind them, as RunCheckpoint does."""
    content = {"loops": {}, "global_step": step, "weights": torch.full((SIZE,), float(step))}
    for name in (f"newest-step={step}.ckpt", "last.ckpt"):
        AtomicCheckpointIO().save_checkpoint(content, folder / name)
        told(DONE)
    (folder / f"newest-step={step - 1}.ckpt").unlink()


def killed_writer(folder: Path, turn: int) -> tuple[bool, list[str]]:
    """Whether a writer of step 2 was killed at this point, and all points that it came to."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            points = Points(turn, writing)
            for place, names in ((os, ("fsync", "replace")), (Path, ("replace", "unlink"))):
                for name in names:
                    points.around(place, name)
            points.in_files()
            write(folder, 2, lambda word: os.write(writing, f"{word}\n".encode()) and None)
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        told = pipe.read().split("\n")[:-1]
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL), told
    return status != 0, told


def main(folder: Path) -> None:
    """Leave what was found behind every kill."""
    found = []
    for turn in count():
        here = folder / str(turn)
        here.mkdir()
        (here / "newest-step=0.ckpt").touch()
        write(here, 1)
        (here / "other.ckpt.partial").write_bytes(b"half")  # of a run that was killed before
        was_killed, told = killed_writer(here, turn)
        newest = newest_whole_checkpoint(here)
        assert newest.path, told
        content = torch.load(newest.path, weights_only=True)
        kill = {
            "point": told[-1] if was_killed else "",
            "done": told.count(DONE),
            "found": content["global_step"],
            "is_whole": bool((content["weights"] == content["global_step"]).all()),
            "passed_over": list(newest.passed_over),
            "unfinished": sorted(path.name for path in here.glob("*.partial")),
        }
        write(here, 3) if (here / "newest-step=2.ckpt").exists() else write(here, 2)
        found.append(kill | {"left": sorted(path.name for path in here.glob("*.partial"))})
        if not was_killed:
            break
    (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
