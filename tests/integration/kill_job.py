"""Trains the same thing twice: once undisturbed, once killed and resumed over and over. Started by test_kill.py.

This process imports everything once and never computes; every attempt is a fork of it, with workers of its own, and is
killed with them (SIGKILL to the group) at a random moment: while it starts, in a batch, while it saves.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from tiny import pretrain, trainer

from sslam_lightning.checkpoints import newest_whole_checkpoint
from sslam_lightning.data import AudioSetDataModule

EPOCHS, BATCH = 16, 3  # the manifest has 29 clips: 10 batches an epoch, of which the last is filled up
MOST_BATCHES = 12  # that an attempt may begin before it is killed


class Report(pl.Callback):
    """Tells the parent of every batch that begins, and writes down every loss."""

    def __init__(self, folder: Path, pipe: int) -> None:
        self.folder, self.pipe = folder, pipe

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        os.write(self.pipe, b".")

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        line = f"{trainer.current_epoch} {batch_idx} {float(outputs['loss']).hex()} {batch.index.tolist()}\n"
        with (self.folder / "losses.txt").open("a") as file:
            file.write(line)


def attempt(folder: Path, manifest: Path, pipe: int) -> None:
    """Train to the end, from the newest whole checkpoint where there is one."""
    torch.set_num_threads(1)
    pl.seed_everything(2, verbose=False)
    module = pretrain("stage 2", dropping=True)
    data = AudioSetDataModule(manifest, batch_size=BATCH, num_workers=2, seed=4)
    save = ModelCheckpoint(folder / "kept", save_last=True, every_n_train_steps=1)
    runner = trainer(folder, Report(folder, pipe), save, max_epochs=EPOCHS, accumulate_grad_batches=2)
    runner.fit(module, data, ckpt_path=newest_whole_checkpoint(folder / "kept").path, weights_only=True)
    torch.save(module.state_dict(), folder / "weights.pt")


def start(folder: Path, manifest: Path) -> tuple[int, int]:
    """Fork an attempt; its process and a pipe that it reports to."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        os.close(reading)
        try:
            attempt(folder, manifest, writing)
            sys.stdout.flush()
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writing)
    return child, reading


def main(folder: Path) -> None:
    """Leave the losses, the weights, and the number of kills."""
    manifest = folder / "train.tsv"
    for name in ("whole", "killed"):
        (folder / name).mkdir()
    child, pipe = start(folder / "whole", manifest)
    while os.read(pipe, 4096):
        pass
    assert os.waitpid(child, 0)[1] == 0, "the undisturbed run failed"

    dice, kills = random.Random(8), 0
    while True:
        child, pipe = start(folder / "killed", manifest)
        batches = dice.randrange(MOST_BATCHES + 1)  # 0: it is killed while it starts
        alive = all(os.read(pipe, 1) for _ in range(batches))
        if alive:
            time.sleep(dice.uniform(0, 0.03) if batches else dice.uniform(0, 0.5))
            os.killpg(child, signal.SIGKILL)
        os.close(pipe)
        status = os.waitpid(child, 0)[1]
        if os.WIFEXITED(status):
            assert status == 0, "a resumed run failed"
            break
        kills += 1
    (folder / "kills.txt").write_text(str(kills))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
