"""One of two processes: trains and validates what `runs` says, and keeps what came out. Started by test_ddp.py."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from processes import meet
from tiny import Clips, Diary, KeepEveryBatch, copy_of, finetune, pretrain, soundscapes, trainer

from sslam_lightning.data import BrokenClip, ClipDataset, SyntheticDataModule, SyntheticDataset
from sslam_lightning.losses import ReconstructionLoss
from sslam_lightning.training.run.optimizers import OptimizerConfig

CLIPS, BATCH, STEPS, VAL_CLIPS = 12, 4, 3, 11  # BATCH over all processes
# Where a gradient is zero but for rounding, Adam divides rounding by rounding; a larger epsilon keeps it out.
OPTIMIZER = OptimizerConfig(lr=1e-3, eps=1e-4)
PRETRAINED = {
    "stage 1": {},
    "stage 2": {"stage": "stage 2"},
    "dino": {"stage": "dino"},
    "reconstruction": {"reconstruction": ReconstructionLoss()},
    "accumulation": {"stage": "stage 2"},
}
FINETUNED = {
    "fine-tuning": {"bce_reduction": "clips"},
    "frozen encoder": {"bce_reduction": "clips", "frozen_encoder": True},
    "positives": {"bce_reduction": "positives"},
    "positives, accumulation": {"bce_reduction": "positives"},
}
ACCUMULATED = 2  # batches an update, in "accumulation"
# What differs between one process and two by intention: draws of a rank of its own, a rank that has no clips.
ONLY_TOGETHER = {
    "layer drop": {"encoder_switches": {"layer_drop": 0.5}},
    "rank without clips, stage 2": {"stage": "stage 2"},
    "rank without clips, dino": {"stage": "dino"},
}
BROKEN_BATCH = 1  # of rank 1


class Gradients(pl.Callback):
    """Of the first batch, behind their mean over processes."""

    def __init__(self) -> None:
        self.first: dict[str, torch.Tensor] = {}

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        if not self.first:
            self.first = {n: p.grad.clone() for n, p in pl_module.named_parameters() if p.grad is not None}


class FirstDraw(pl.Callback):
    """What the decoder's noise generator stands at when a batch begins."""

    def __init__(self) -> None:
        self.seeds: list[int] = []

    def on_before_zero_grad(self, trainer, pl_module, optimizer) -> None:
        self.seeds.append(torch.initial_seed())


class NothingForRankOne(ClipDataset):
    """Clips of which rank 1 can read none in one of its batches."""

    def __init__(self, clips: ClipDataset) -> None:
        self.clips, self.asked = clips, 0

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, key):
        batch, self.asked = self.asked // (BATCH // 2), self.asked + 1
        if torch.distributed.get_rank() == 1 and batch == BROKEN_BATCH:
            return BrokenClip(f"clip {key[1]}", "broken by intention")
        return self.clips[key]


def run(folder: Path, devices: int) -> dict[str, Any]:
    """The same in one process and in two: the results of this process."""
    parallel = {"devices": devices, "strategy": "ddp" if devices > 1 else "auto"}
    data = {"batch_size": BATCH // devices, "num_train": CLIPS}
    results: dict[str, Any] = {}
    for name, settings in {**PRETRAINED, **(ONLY_TOGETHER if devices > 1 else {})}.items():
        pl.seed_everything(5, verbose=False)
        module = pretrain(**settings, noise_std=0.0, optimizer=OPTIMIZER)
        clips = soundscapes(**data)
        if "rank without clips" in name:
            clips.broken.max_share = 1.0
            clips._datasets["train"] = NothingForRankOne(clips.make_dataset("train"))
        gradients, diary, draws = Gradients(), Diary(), FirstDraw()
        accumulate = ACCUMULATED if name == "accumulation" else 1
        settings = {"max_steps": STEPS, "gradient_clip_val": 4.0, "accumulate_grad_batches": accumulate, "max_epochs": 2}
        runner = trainer(folder, gradients, diary, draws, **settings, **parallel)
        runner.fit(module, clips)
        assert runner.world_size == devices
        results[name] = {
            "gradients": gradients.first,
            "state": {name: value.clone() for name, value in module.state_dict().items()},
            "variances": [entry["train/target_std"] for entry in diary.logged if "train/target_std" in entry],
            "seeds": draws.seeds,
            "broken": len(clips.unreadable_clips),
        }
    pl.seed_everything(5, verbose=False)
    (losses,) = trainer(folder, **parallel).validate(
        pretrain(noise_std=0.0), soundscapes(num_val=VAL_CLIPS, **data), verbose=False
    )
    results["pretraining's validation"] = {name: float(value) for name, value in losses.items()}
    pl.seed_everything(6, verbose=False)
    module = finetune(bce_reduction="clips", encoder={}, optimizer=OPTIMIZER)
    runner = trainer(folder, **parallel)
    clips = soundscapes(num_val=VAL_CLIPS, **data)
    metrics = runner.validate(module, clips, verbose=False)[0]
    results["validation"] = {name: float(value) for name, value in metrics.items()}
    for name, settings in FINETUNED.items():
        pl.seed_everything(6, verbose=False)
        module, gradients, diary = finetune(encoder={}, optimizer=OPTIMIZER, **settings), Gradients(), Diary()
        accumulate = ACCUMULATED if "accumulation" in name else 1
        limits = {"max_steps": STEPS, "max_epochs": 2, "limit_val_batches": 0, "accumulate_grad_batches": accumulate}
        trainer(folder, gradients, diary, **limits, **parallel).fit(module, soundscapes(**data))
        results[name] = {
            "gradients": gradients.first,
            "losses": [entry["train/loss"] for entry in diary.logged if "train/loss" in entry],
            "state": {name: value.clone() for name, value in module.state_dict().items()},
        }
    return results


class Unreadable(SyntheticDataset):
    """Some clips cannot be read."""

    broken: tuple[int, ...] = ()

    def __getitem__(self, key):
        index = key[1]
        return BrokenClip(f"clip {index}", f"clip {index} is broken") if index in self.broken else super().__getitem__(key)


def unreadable(broken: tuple[int, ...] = (), **settings: Any) -> SyntheticDataModule:
    data = soundscapes(**settings)
    dataset = data.dataset("train")
    assert isinstance(dataset, SyntheticDataset)
    dataset.__class__, dataset.broken = Unreadable, broken
    return data


def resume(folder: Path, devices: int, checkpoint: Path | None, **settings: Any) -> dict[str, Any]:
    """Two epochs of 15 clips, two clips per process and batch, from a checkpoint or from the start."""
    pl.seed_everything(7 if checkpoint is None else 8, verbose=False)
    module, diary, clips = pretrain("stage 2", dropping=True), Diary(), Clips()
    parallel = {"devices": devices, "strategy": "ddp" if devices > 1 else "auto"}
    keep = [KeepEveryBatch(folder)] if checkpoint is None else []
    runner = trainer(folder, diary, clips, *keep, max_epochs=2, accumulate_grad_batches=2, **parallel)
    runner.fit(module, soundscapes(15, batch_size=2), ckpt_path=checkpoint, weights_only=True)
    return {"losses": diary.losses, "clips": clips.seen, "state": copy_of(module), "epochs": runner.current_epoch}


def interruptions(folder: Path, foreign: Path) -> dict[str, Any]:
    """A run of two processes; the same from its third and fifth batch; and one that began on a single process."""
    results = {"whole": resume(folder / "kept", 2, None)}
    for batch in (3, 5):
        results[f"from {batch}"] = resume(folder, 2, folder / "kept" / f"batch{batch}.ckpt")
    return {**results, "from one": resume(folder, 2, foreign)}


def unreadable_clips(folder: Path) -> dict[str, Any]:
    """What both processes say of a few broken clips, and of many that only one of them meets."""
    parallel = {"devices": 2, "strategy": "ddp", "max_epochs": 2}
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("sslam_lightning").addHandler(handler)
    runner = trainer(folder, **parallel)
    runner.fit(finetune(), unreadable((3, 8), num_train=CLIPS, batch_size=2))
    few = {"counted": float(runner.callback_metrics["unreadable_clips"]), "said": list(said)}
    data = unreadable(num_train=CLIPS, batch_size=2)
    dataset, sampler = data.dataset("train"), data.train_dataloader().sampler
    dataset.broken = tuple(sampler.order(0).view(-1, 2, 2)[:, 1].flatten().tolist())  # type: ignore[union-attr]
    try:
        trainer(folder, **parallel).fit(finetune(), data)
    except ValueError as error:
        return {**few, "stopped": str(error)}
    return few


if __name__ == "__main__":
    torch.set_num_threads(1)
    meet()
    folder, foreign = Path(sys.argv[1]), Path(sys.argv[2])
    results = {**run(folder, 2), **interruptions(folder, foreign), "broken": unreadable_clips(folder)}
    torch.save(results, folder / f"rank{os.environ['LOCAL_RANK']}.pt")
