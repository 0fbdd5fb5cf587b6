"""One of two processes: trains and validates what `runs` says, and keeps what came out. Started by test_ddp.py."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from tiny import Diary, finetune, pretrain, soundscapes, trainer

from sslam_lightning.training.optimizers import OptimizerConfig

CLIPS, BATCH, STEPS, VAL_CLIPS = 12, 4, 3, 11  # BATCH over all processes
# Where a gradient is zero but for rounding, Adam divides rounding by rounding; a larger epsilon keeps it out.
OPTIMIZER = OptimizerConfig(lr=1e-3, eps=1e-4)
PRETRAINED = ("stage 1", "stage 2", "dino")


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


def run(folder: Path, devices: int) -> dict[str, Any]:
    """The same in one process and in two: the results of this process."""
    parallel = {"devices": devices, "strategy": "ddp" if devices > 1 else "auto"}
    data = {"batch_size": BATCH // devices, "num_train": CLIPS}
    results: dict[str, Any] = {}
    for stage in PRETRAINED:
        pl.seed_everything(5, verbose=False)
        module = pretrain(stage, noise_std=0.0, optimizer=OPTIMIZER)
        gradients, diary, draws = Gradients(), Diary(), FirstDraw()
        runner = trainer(folder, gradients, diary, draws, max_steps=STEPS, gradient_clip_val=4.0, **parallel)
        runner.fit(module, soundscapes(**data))
        assert runner.world_size == devices
        results[stage] = {
            "gradients": gradients.first,
            "state": {name: value.clone() for name, value in module.state_dict().items()},
            "variances": [entry["target_variance"] for entry in diary.logged],
            "seeds": draws.seeds,
        }
    pl.seed_everything(6, verbose=False)
    module = finetune(divide_by="clips", encoder={}, optimizer=OPTIMIZER)
    runner, gradients = trainer(folder, **parallel), Gradients()
    clips = soundscapes(num_val=VAL_CLIPS, **data)
    metrics = runner.validate(module, clips, verbose=False)[0]
    results["validation"] = {name: float(value) for name, value in metrics.items()}
    runner = trainer(folder, gradients, max_steps=STEPS, limit_val_batches=0, **parallel)
    runner.fit(module, soundscapes(**data))
    results["fine-tuning"] = {
        "gradients": gradients.first,
        "state": {name: value.clone() for name, value in module.state_dict().items()},
    }
    return results


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.save(run(Path(sys.argv[1]), 2), Path(sys.argv[1]) / f"rank{os.environ['LOCAL_RANK']}.pt")
