from __future__ import annotations

import os
from pathlib import Path

import torch

from sslam_lightning.checkpoints import newest_whole_checkpoint


def write(path: Path, age_seconds: int, content: object = None, part: float = 1.0) -> Path:
    torch.save({"loops": {}, "weights": torch.ones(1000)} if content is None else content, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    os.utime(path, (1e9 - age_seconds, 1e9 - age_seconds))
    return path


def test_the_newest_whole_one(tmp_path: Path) -> None:
    write(tmp_path / "epoch=9.ckpt", age_seconds=30)
    expected = write(tmp_path / "epoch=2.ckpt", age_seconds=20)  # what counts is when it was written
    half = write(tmp_path / "last.ckpt", age_seconds=10, part=0.5)
    empty = write(tmp_path / "last-v1.ckpt", age_seconds=5, part=0.0)
    foreign = write(tmp_path / "weights.ckpt", age_seconds=2, content={"model": {}})
    (tmp_path / ".last.ckpt.unfinished").write_bytes(b"half")
    path, passed_over = newest_whole_checkpoint(tmp_path)
    assert path == expected
    assert passed_over[0] == f"passed over: {foreign} is no run to go on with"
    assert passed_over[1].startswith(f"passed over: {empty} cannot be opened as a checkpoint: ")
    assert passed_over[2].startswith(f"passed over: {half} cannot be opened as a checkpoint: ")
    assert all("\n" not in line for line in passed_over)


def test_nothing_whole(tmp_path: Path) -> None:
    assert newest_whole_checkpoint(tmp_path / "none") == (None, ())
    write(tmp_path / "last.ckpt", age_seconds=0, part=0.9)
    path, passed_over = newest_whole_checkpoint(tmp_path)
    assert path is None
    assert len(passed_over) == 1
