"""The checkpoints of a run: which one an interrupted run resumes from, and whether a file is one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from sslam_lightning.checkpoints.archive import open_archive

LAST, BEST = "last.ckpt", "best.ckpt"


class Newest(NamedTuple):
    """The newest whole checkpoint, None where there is none, and a line for every file that is damaged or no checkpoint."""

    path: Path | None
    passed_over: tuple[str, ...]


def newest_whole_checkpoint(folder: str | Path) -> Newest:
    """``last.ckpt`` of a folder; where it is damaged or missing, of the other ``.ckpt`` files the one of the most updates.

    The updates are those that a file says it has, as the times of files from several machines do not tell their order.
    """
    folder = Path(folder)
    names = {entry.name for entry in os.scandir(folder) if entry.name.endswith(".ckpt")} if folder.is_dir() else set()
    steps, passed_over = dict[Path, int](), []
    for name in sorted(names, key=lambda name: (name != LAST, name)):
        try:
            steps[folder / name] = step_of(folder / name)
        except ValueError as error:
            passed_over.append(f"passed over: {error}")
        else:
            if name == LAST:
                break
    return Newest(max(steps, key=lambda path: (steps[path], path.name), default=None), tuple(passed_over))


def step_of(path: Path) -> int:
    """How many updates the checkpoint of a run has.

    Raises:
        ValueError: if it is damaged, or no run that can go on.
    """
    content = open_archive(path)
    if not isinstance(content, Mapping) or "loops" not in content or not isinstance(content.get("global_step"), int):
        raise ValueError(f"{path} is no run to go on with; to start from its weights set model.init_from")
    return int(content["global_step"])


def check_resumable(path: Path) -> int | None:
    """:func:`step_of` of what ``--ckpt_path`` names; None for a word such as "hpc", which is Lightning's.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: as :func:`step_of`.
    """
    if path.is_file():
        return step_of(path)
    if path.suffix or len(path.parts) > 1:
        raise FileNotFoundError(f"no checkpoint at {path}")
    return None
