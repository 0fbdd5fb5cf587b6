"""Trains the same thing twice: once undisturbed, once killed and resumed over and over. Started by test_kill.py.

This process imports everything once and never computes; every attempt is one fork of it a rank, each with workers of its
own, and is killed with them (SIGKILL to their groups) at a random moment: while it starts, in a batch, while it saves.
By hand, for a long run: python tests/integration/kill_job.py FOLDER --data=FOLDER/train.tsv --ranks=2 --epochs=30
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import lightning.pytorch as pl
import torch
from processes import meet
from tiny import finetune, pretrain, trainer

from sslam_lightning.augment import Mixup, SpecAugment
from sslam_lightning.checkpoints import newest_whole_checkpoint
from sslam_lightning.data import AudioSetDataModule
from sslam_lightning.training.callbacks import RunCheckpoint

BATCH, ACCUMULATED = 3, 2  # of each rank; the last update of an epoch is filled up
CHOSEN = 25  # clips of an epoch, where they are drawn by their classes
SURVIVORS_SECONDS = 600.0  # with those that wait for ever for a rank that they lost; no measure of how fast they end


class Job(NamedTuple):
    """What is trained."""

    data: Path  # a manifest or a folder of shards
    ranks: int
    epochs: int
    finetuning: bool  # on labels, classes balanced, with every augmentation; else stage 2


class Pipes(NamedTuple):
    """Between an attempt's first rank and the parent; the files of its own end."""

    told: int  # of every batch that begins
    allowed: int  # a batch each, and any number when it is closed


class Report(pl.Callback):
    """Tells the parent of every batch that begins, waits until it may go on, and writes down every loss."""

    def __init__(self, folder: Path, pipes: Pipes) -> None:
        self.folder, self.pipes = folder, pipes

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if trainer.is_global_zero:
            os.write(self.pipes.told, b".")
            os.read(self.pipes.allowed, 1)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        line = f"{trainer.current_epoch} {batch_idx} {float(outputs['loss']).hex()} {batch.clip_index.tolist()}\n"
        with (self.folder / f"losses{trainer.global_rank}.txt").open("a") as file:
            file.write(line)


def attempt(job: Job, folder: Path, pipes: Pipes) -> None:
    """Train to the end, from the newest whole checkpoint where there is one."""
    torch.set_num_threads(1)
    pl.seed_everything(2, verbose=False)
    data = {"batch_size": BATCH, "num_workers": 2, "seed": 4}
    module: pl.LightningModule = pretrain("stage 2", dropping=True)
    if job.finetuning:
        module = finetune(spec_augment=SpecAugment(), mixup=Mixup(alpha=0.8), noise_and_roll=True)
        data |= {
            "class_map": job.data.parent / "classes.csv",
            "weighted_sampling": True,
            "samples_per_epoch": CHOSEN,
        }
    save = RunCheckpoint(folder / "kept", every_n_train_steps=1)
    parallel = {"devices": job.ranks, "strategy": "ddp" if job.ranks > 1 else "auto"}
    settings = {"max_epochs": job.epochs, "accumulate_grad_batches": ACCUMULATED, **parallel}
    runner = trainer(folder, Report(folder, pipes), save, **settings)
    newest = newest_whole_checkpoint(folder / "kept").path
    runner.fit(module, AudioSetDataModule(job.data, **data), ckpt_path=newest, weights_only=True)
    if runner.is_global_zero:
        torch.save(module.state_dict(), folder / "weights.pt")


def start(job: Job, folder: Path) -> tuple[list[int], Pipes]:
    """Fork the ranks of an attempt; their processes, and the parent's ends of the pipes."""
    reading, telling = os.pipe()
    waiting, allowing = os.pipe()
    place = {"NODE_RANK": "0", "MEET_IN": f"{tempfile.mkdtemp(dir=folder)}/store", "MEET": str(job.ranks)}
    children = []
    for rank in range(job.ranks):
        child = os.fork()
        if child:
            children.append(child)
            continue
        os.setsid()
        os.close(reading)
        os.close(allowing)
        if job.ranks > 1:
            os.environ |= place | {"LOCAL_RANK": str(rank)}
        if rank:
            os.close(telling)
        try:
            if job.ranks > 1:
                meet()
            attempt(job, folder, Pipes(telling, waiting))
            sys.stdout.flush()
            os._exit(0)
        except BaseException as error:
            print(f"rank {rank}: {type(error).__name__}: {str(error).splitlines()[:1]}", file=sys.stderr, flush=True)
        finally:
            os._exit(1)
    os.close(telling)
    os.close(waiting)
    return children, Pipes(reading, allowing)


def ended(child: int, seconds: float) -> bool:
    """Whether a process ends within so long; it stays to be waited for."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return True
        time.sleep(0.02)
    return False


def kill(children: list[int]) -> None:
    """End them with all their workers."""
    for child in children:
        try:
            os.killpg(child, signal.SIGKILL)
        except ProcessLookupError:  # it has no group of its own yet
            os.kill(child, signal.SIGKILL)


def disturb(children: list[int], pipes: Pipes, most_batches: int, dice: random.Random) -> str:
    """Kill at a random moment, and say what was killed; nothing, if the run was over before.

    An attempt goes no further than the batch behind whose beginning it is killed, however late that comes.
    """
    batches = dice.randrange(most_batches + 1)  # 0: it is killed while it starts
    os.write(pipes.allowed, b"." * batches)
    if not all(os.read(pipes.told, 1) for _ in range(batches)):
        return "nothing"
    time.sleep(dice.uniform(0, 0.03) if batches else dice.uniform(0, 0.5))
    if len(children) == 1 or batches == 0 or dice.random() < 0.3:
        kill(children)
        return "all"
    victim = dice.randrange(len(children))
    kill([children[victim]])
    os.close(pipes.allowed)
    left_alone = [child for child in children if not ended(child, SURVIVORS_SECONDS)]
    kill(children)
    assert not left_alone, f"a rank waits for ever for rank {victim}, which was killed"
    return f"rank {victim}"


def main(job: Job, folder: Path, most_batches: int, seed: int) -> None:
    """Leave the losses, the weights, and the number of kills by what was killed."""
    for name in ("whole", "killed"):
        (folder / name).mkdir()
    children, pipes = start(job, folder / "whole")
    os.close(pipes.allowed)
    while os.read(pipes.told, 4096):
        pass
    os.close(pipes.told)
    assert not any(os.waitpid(child, 0)[1] for child in children), "the undisturbed run failed"

    dice, kills = random.Random(seed), Counter[str]()
    while True:
        children, pipes = start(job, folder / "killed")
        killed = disturb(children, pipes, most_batches, dice)
        for pipe in pipes:
            with suppress(OSError):  # it is closed
                os.close(pipe)
        statuses = [os.waitpid(child, 0)[1] for child in children]
        if not any(statuses):
            break
        assert killed != "nothing", "a resumed run failed"
        kills[killed] += 1
    (folder / "kills.json").write_text(json.dumps(kills))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--finetuning", action="store_true")
    parser.add_argument("--most_batches", type=int, default=12, help="that an attempt may begin before it is killed")
    parser.add_argument("--seed", type=int, default=8)
    given = parser.parse_args()
    main(Job(given.data, given.ranks, given.epochs, given.finetuning), given.folder, given.most_batches, given.seed)
