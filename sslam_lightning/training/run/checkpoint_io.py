"""Checkpoints that are either whole or not there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins import TorchCheckpointIO

from sslam_lightning.runtime.atomic_write import replacing


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, waits for the disk, then renames: a kill or a full disk leaves the old file whole.

    Lightning's own writes to the system's temporary folder and moves, which is a copy where that is another file system.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        if "://" in str(path) or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        for left_over in path.parent.glob("*.ckpt.partial"):  # by a process that was killed: they would fill the disk
            left_over.unlink(missing_ok=True)
        try:
            with replacing(path) as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
        except RuntimeError as error:  # of torch's writer, which finds its file shorter than it should be
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def check_one_checkpoint(trainer: pl.Trainer) -> None:
    """Refuse to go on from several checkpoints at once: over a network file system ranks may not see the same files yet.

    Raises:
        ValueError: naming the two; on all ranks, so that none waits.
    """
    strategy, own = trainer.strategy, str(trainer.ckpt_path)
    first = strategy.broadcast(own)
    if not strategy.reduce_boolean_decision(first == own, all=True):
        here = f"rank {trainer.global_rank} from {own}" if own != first else "another from another one"
        raise ValueError(
            f"the ranks do not see the same newest checkpoint: rank 0 resumes from {first}, {here}. Start again when "
            "the file system has settled, or name one with --ckpt_path"
        )


def save_atomically(trainer: pl.Trainer) -> None:
    """Take the place of Lightning's plain way of saving, unless the trainer was given another."""
    strategy: Any = trainer.strategy
    if type(strategy.checkpoint_io) is TorchCheckpointIO:
        strategy.checkpoint_io = AtomicCheckpointIO()
