from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.fabric.plugins import TorchCheckpointIO

from sslam_lightning.training.run.checkpoint_io import AtomicCheckpointIO, check_one_checkpoint, save_atomically


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


def test_torchs_writer_hides_the_full_disk_behind_an_error_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_out(content: Any, file: Any) -> None:
        try:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 4803136 vs 4803028")

    monkeypatch.setattr(torch, "save", run_out)
    with pytest.raises(OSError, match="No space left"):
        AtomicCheckpointIO().save_checkpoint({"step": 2}, tmp_path / "last.ckpt")
    assert os.listdir(tmp_path) == []


def test_what_a_process_that_was_killed_left_unfinished_is_taken_away(tmp_path: Path) -> None:
    (tmp_path / "step=3.ckpt.partial").write_bytes(b"half")
    AtomicCheckpointIO().save_checkpoint({"step": 4}, tmp_path / "step=4.ckpt")
    assert os.listdir(tmp_path) == ["step=4.ckpt"]


def test_the_trainers_own_choice_is_left_alone() -> None:
    class Mine(TorchCheckpointIO):
        pass

    for given, expected in ((TorchCheckpointIO(), AtomicCheckpointIO), (Mine(), Mine)):
        trainer: Any = SimpleNamespace(strategy=SimpleNamespace(checkpoint_io=given))
        save_atomically(trainer)
        assert type(trainer.strategy.checkpoint_io) is expected


class Ranks:
    """Rank 0 has told the others what it starts from, and all know whether they agree."""

    def __init__(self, first: str, all_agree: bool) -> None:
        self.first, self.all_agree = first, all_agree

    def broadcast(self, _: str) -> str:
        return self.first

    def reduce_boolean_decision(self, decision: bool, all: bool) -> bool:
        assert all
        return decision and self.all_agree


def _rank(number: int, path: str, first: str, all_agree: bool = True) -> Any:
    return SimpleNamespace(strategy=Ranks(first, all_agree), ckpt_path=path, global_rank=number)


def test_all_ranks_resume_from_one_checkpoint() -> None:
    check_one_checkpoint(_rank(1, "run/last.ckpt", first="run/last.ckpt"))
    check_one_checkpoint(_rank(1, "None", first="None"))
    with pytest.raises(ValueError, match=r"rank 0 resumes from run/last\.ckpt, rank 1 from run/old\.ckpt\. Start again"):
        check_one_checkpoint(_rank(1, "run/old.ckpt", first="run/last.ckpt"))
    with pytest.raises(ValueError, match=r"rank 0 resumes from run/last\.ckpt, another from another one\. Start again"):
        check_one_checkpoint(_rank(0, "run/last.ckpt", first="run/last.ckpt", all_agree=False))
