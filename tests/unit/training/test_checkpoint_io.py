from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.fabric.plugins import TorchCheckpointIO

from sslam_lightning.training.checkpoint_io import AtomicCheckpointIO, save_atomically


def test_writes_what_it_is_given(tmp_path: Path) -> None:
    path = tmp_path / "new" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"weights": torch.arange(3)}, path)
    assert torch.equal(torch.load(path, weights_only=True)["weights"], torch.arange(3))
    assert os.listdir(path.parent) == ["last.ckpt"]


def test_a_full_disk_leaves_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"step": 1}, path)
    save = torch.save

    def run_out(content: Any, file: Any) -> None:
        save(content, file)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(torch, "save", run_out)
    with pytest.raises(OSError, match="No space left"):
        AtomicCheckpointIO().save_checkpoint({"step": 2}, path)
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert os.listdir(tmp_path) == ["last.ckpt"]


def test_the_trainers_own_choice_is_left_alone() -> None:
    class Mine(TorchCheckpointIO):
        pass

    for given, expected in ((TorchCheckpointIO(), AtomicCheckpointIO), (Mine(), Mine)):
        trainer: Any = SimpleNamespace(strategy=SimpleNamespace(checkpoint_io=given))
        save_atomically(trainer)
        assert type(trainer.strategy.checkpoint_io) is expected
