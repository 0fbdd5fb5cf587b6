"""Two processes for every kind of trouble, which befalls one of them. Started by test_trouble.py."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

import lightning.pytorch as pl
import torch
from forks import exit_code, fork_group
from lightning.pytorch.strategies import DDPStrategy
from tiny import ema_callback, pretrain, soundscapes, trainer

from sslam_lightning.training.callbacks import LossGuard, PeerWatch

SICK_BATCH = 2
KINDS = ("hangs", "is killed", "is stopped", "fails", "loses a loss")


class Trouble(pl.Callback):
    """Befalls rank 1 in its third batch."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if trainer.global_rank == 1 and batch_idx == SICK_BATCH:
            if self.kind == "hangs":
                time.sleep(600)
            if self.kind == "is killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.kind == "is stopped":
                os.kill(os.getpid(), signal.SIGSTOP)
            if self.kind == "fails":
                raise ValueError("the disk of rank 1 is on fire")

    def on_before_backward(self, trainer, pl_module, loss) -> None:
        batch_idx = trainer.fit_loop.epoch_loop.batch_idx
        if self.kind == "loses a loss" and trainer.global_rank == 1 and batch_idx == SICK_BATCH:
            loss.register_hook(lambda gradient: gradient * float("nan"))


def train(folder: Path, kind: str) -> None:
    """What one process does."""
    pl.seed_everything(5, verbose=False)
    watch = PeerWatch(hung_after_seconds=9.0, dead_after_seconds=8.0, beat_seconds=0.5)
    strategy = DDPStrategy(process_group_backend="gloo")
    runner = trainer(folder, watch, Trouble(kind), LossGuard(), devices=2, strategy=strategy, max_epochs=1)
    module = pretrain()
    runner.fit(module, soundscapes(24, batch_size=2))
    kept = {"state": module.state_dict(), "updates": ema_callback(runner).updates, "step": runner.global_step}
    torch.save(kept, folder / f"rank{runner.global_rank}.pt")


def main(folder: Path) -> None:
    """Start all at once, and write down how they ended; a process that never ends is not waited for."""
    processes = {}
    for kind in KINDS:
        (folder / kind).mkdir()
        processes[kind] = fork_group(2, partial(train, folder / kind, kind), folder / kind)
    codes: dict[str, list[int]] = {}
    for kind, pair in processes.items():
        codes[kind] = [exit_code(pair[0])]
        if kind == "is stopped":  # such a process does not even die
            os.kill(pair[1], signal.SIGKILL)
        codes[kind].append(exit_code(pair[1]))
    (folder / "codes.json").write_text(json.dumps(codes))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
