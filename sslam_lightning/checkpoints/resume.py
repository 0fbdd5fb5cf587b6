"""Whether a file is a run to go on with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sslam_lightning.checkpoints.archive import open_archive
from sslam_lightning.checkpoints.read import LIGHTNING_MARK


def check_resumable(path: Path) -> int | None:
    """Say what is wrong with the checkpoint of a run in one line, before anything is built.

    Returns:
        How many updates it has; None for a word such as "hpc", which is Lightning's.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, unsafe, or no Lightning checkpoint.
    """
    if not path.is_file():
        if path.suffix or len(path.parts) > 1:
            raise FileNotFoundError(f"no checkpoint at {path}")
        return None
    content = open_archive(path)
    if not isinstance(content, Mapping) or LIGHTNING_MARK not in content:
        raise ValueError(f"{path} is no run of this project to go on with; to start from its weights set model.init_from")
    step = content.get("global_step")
    return step if isinstance(step, int) else 0
