"""One of two processes: trains and validates what `runs` says, and keeps what came out. Started by test_ddp.py."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from tiny import Diary, finetune, pretrain, soundscapes, trainer

from sslam_lightning.data.dataset import BrokenClip, ClipDataset
from sslam_lightning.objectives import Reconstruction
from sslam_lightning.training.optimizers import OptimizerConfig

CLIPS, BATCH, STEPS, VAL_CLIPS = 12, 4, 3, 11  # BATCH over all processes
# Where a gradient is zero but for rounding, Adam divides rounding by rounding; a larger epsilon keeps it out.
OPTIMIZER = OptimizerConfig(lr=1e-3, eps=1e-4)
PRETRAINED = {
    "stage 1": {},
    "stage 2": {"stage": "stage 2"},
    "dino": {"stage": "dino"},
    "reconstruction": {"reconstruction": Reconstruction()},
    "accumulation": {"stage": "stage 2"},
}
FINETUNED = {"fine-tuning": {}, "frozen encoder": {"frozen_encoder": True}}
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


class Unreadable(ClipDataset):
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
            clips.broken.judge_after = 1000
            clips.setup = lambda stage: None
            clips._datasets["train"] = Unreadable(clips.make_dataset("train"))
        gradients, diary, draws = Gradients(), Diary(), FirstDraw()
        accumulate = ACCUMULATED if name == "accumulation" else 1
        settings = {"max_steps": STEPS, "gradient_clip_val": 4.0, "accumulate_grad_batches": accumulate, "max_epochs": 2}
        runner = trainer(folder, gradients, diary, draws, **settings, **parallel)
        runner.fit(module, clips)
        assert runner.world_size == devices
        results[name] = {
            "gradients": gradients.first,
            "state": {name: value.clone() for name, value in module.state_dict().items()},
            "variances": [entry["target_variance"] for entry in diary.logged if "target_variance" in entry],
            "seeds": draws.seeds,
            "broken": len(clips.broken_clips),
        }
    pl.seed_everything(5, verbose=False)
    (losses,) = trainer(folder, **parallel).validate(
        pretrain(noise_std=0.0), soundscapes(num_val=VAL_CLIPS, **data), verbose=False
    )
    results["pretraining's validation"] = {name: float(value) for name, value in losses.items()}
    pl.seed_everything(6, verbose=False)
    module = finetune(divide_by="clips", encoder={}, optimizer=OPTIMIZER)
    runner = trainer(folder, **parallel)
    clips = soundscapes(num_val=VAL_CLIPS, **data)
    metrics = runner.validate(module, clips, verbose=False)[0]
    results["validation"] = {name: float(value) for name, value in metrics.items()}
    for name, settings in FINETUNED.items():
        pl.seed_everything(6, verbose=False)
        module, gradients = finetune(divide_by="clips", encoder={}, optimizer=OPTIMIZER, **settings), Gradients()
        runner = trainer(folder, gradients, max_steps=STEPS, limit_val_batches=0, **parallel)
        runner.fit(module, soundscapes(**data))
        results[name] = {
            "gradients": gradients.first,
            "state": {name: value.clone() for name, value in module.state_dict().items()},
        }
    return results


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.save(run(Path(sys.argv[1]), 2), Path(sys.argv[1]) / f"rank{os.environ['LOCAL_RANK']}.pt")
