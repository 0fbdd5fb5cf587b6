from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from sslam_lightning.checkpoints import newest_whole_checkpoint, step_of


def write(path: Path, step: int, age_seconds: int = 0, content: object = None, part: float = 1.0) -> Path:
    run = {"loops": {}, "global_step": step, "weights": torch.ones(1000)}
    torch.save(run if content is None else content, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    os.utime(path, (1e9 - age_seconds, 1e9 - age_seconds))
    return path


def test_last_is_the_one_of_that_name(tmp_path: Path) -> None:
    """U1, R14: another file may be younger by another machine's clock, or hold more updates of a run that was left."""
    expected = write(tmp_path / "last.ckpt", step=6, age_seconds=7200)
    write(tmp_path / "best.ckpt", step=3, age_seconds=0)
    write(tmp_path / "epoch=1-step=8.ckpt", step=8, age_seconds=-3600)
    assert newest_whole_checkpoint(tmp_path) == (expected, ())


def test_where_last_is_damaged_the_one_with_the_most_updates(tmp_path: Path) -> None:
    """R14: its time does not count."""
    write(tmp_path / "epoch=9.ckpt", step=900, age_seconds=-3600)  # an hour ahead
    expected = write(tmp_path / "epoch=10.ckpt", step=1000, age_seconds=30)
    half = write(tmp_path / "last.ckpt", step=1000, part=0.5)
    empty = write(tmp_path / "last-v1.ckpt", step=2000, part=0.0)
    foreign = write(tmp_path / "weights.ckpt", step=0, content={"model": {}})
    (tmp_path / "folder.ckpt").mkdir()
    (tmp_path / "last.ckpt.partial").write_bytes(b"half")
    path, passed_over = newest_whole_checkpoint(tmp_path)
    assert path == expected
    assert passed_over[0].startswith(f"passed over: {half} cannot be opened as a checkpoint: ")
    assert passed_over[1].startswith(f"passed over: {tmp_path / 'folder.ckpt'} cannot be opened as a checkpoint: ")
    assert passed_over[2].startswith(f"passed over: {empty} cannot be opened as a checkpoint: ")
    assert (
        passed_over[3] == f"passed over: {foreign} is no run to go on with; to start from its weights set model.init_from"
    )
    assert all("\n" not in line for line in passed_over)


def test_nothing_whole(tmp_path: Path) -> None:
    assert newest_whole_checkpoint(tmp_path / "none") == (None, ())
    write(tmp_path / "last.ckpt", step=3, part=0.9)
    path, passed_over = newest_whole_checkpoint(tmp_path)
    assert path is None
    assert len(passed_over) == 1


@pytest.mark.parametrize("content", [[1], {"loops": {}}, {"global_step": 3}, {"loops": {}, "global_step": "3"}])
def test_what_is_no_run(content: object, tmp_path: Path) -> None:
    path = write(tmp_path / "last.ckpt", step=0, content=content)
    with pytest.raises(ValueError, match=r"last\.ckpt is no run to go on with"):
        step_of(path)
