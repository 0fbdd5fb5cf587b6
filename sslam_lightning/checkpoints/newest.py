"""The checkpoint that an interrupted run goes on from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from sslam_lightning.checkpoints.archive import open_archive


class Newest(NamedTuple):
    """The newest whole checkpoint, None where there is none, and a line for every newer one that is damaged."""

    path: Path | None
    passed_over: tuple[str, ...]


def newest_whole_checkpoint(folder: str | Path) -> Newest:
    """Look through the ``.ckpt`` files of a folder, the last written first, until one can be opened."""
    folder = Path(folder)
    files = [Path(entry) for entry in os.scandir(folder) if entry.name.endswith(".ckpt")] if folder.is_dir() else []
    passed_over = []
    for path in sorted(files, key=lambda file: (file.stat().st_mtime_ns, file.name), reverse=True):
        try:
            content = open_archive(path)
        except ValueError as error:
            passed_over.append(f"passed over: {error}")
            continue
        if isinstance(content, dict) and "loops" in content:
            return Newest(path, tuple(passed_over))
        passed_over.append(f"passed over: {path} is no run to go on with")
    return Newest(None, tuple(passed_over))
