"""Trains recipes on 1, 2 and 4 processes, with 4, 2 and 1 batches an update. Started by test_curves.py."""

from __future__ import annotations

import json
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from forks import exit_code, fork_group
from lightning.pytorch.loggers.logger import DummyLogger
from tiny import trainer

from sslam_lightning.cli.fit.trainer import SSLAMCLI
from sslam_lightning.runtime.configs import config_folder

BATCH, WORLDS, EPOCHS = 2, (1, 2, 4), 2  # clips a process
CLIPS, VAL_CLIPS = 27, 11  # an epoch is three updates of 8 clips, and one that is filled up
RECIPES = {
    "stage 1": ["pretrain/eat_base", "overlays/sizes/tiny"],
    "stage 2": ["pretrain/sslam_base", "overlays/sizes/tiny"],
    "fine-tuning": ["finetune/audioset_20k", "overlays/sizes/tiny"],
}
HERE = [
    *("--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.precision=32-true", "--model.init_from=null"),
    *("--model.encoder.depth=2", "--model.optimizer.warmup_steps=2", "--model.optimizer.lr=1e-3"),
    *(f"--data.num_train={CLIPS}", f"--data.num_val={VAL_CLIPS}", f"--data.batch_size={BATCH}"),
]


class Rows(DummyLogger):
    """What the run's log would hold: name by name, step by step."""

    def __init__(self) -> None:
        super().__init__()
        self.curves: dict[str, list[tuple[int, float]]] = {}

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        for name, value in metrics.items():
            self.curves.setdefault(name, []).append((step or 0, float(value)))


def build(name: str) -> tuple[pl.LightningModule, pl.LightningDataModule]:
    """Model and data as the command line builds them."""
    files = [*RECIPES[name], "overlays/data/synthetic"]
    layers = [f"--config={config_folder() / file}.yaml" for file in files]
    top = [] if name == "fine-tuning" else ["--model.masks_per_clip=4", "--model.decoder.depth=2"]
    cli = SSLAMCLI([*layers, *HERE, *top], run=False)
    return cli.model, cli.datamodule


def fit(built: dict[str, tuple[pl.LightningModule, pl.LightningDataModule]], world: int, folder: Path) -> None:
    """What one process does: all recipes, one behind the other."""
    parallel = {
        "devices": world,
        "strategy": "ddp" if world > 1 else "auto",
        "accumulate_grad_batches": WORLDS[-1] // world,
    }
    curves = {}
    for name, (module, data) in built.items():
        rows = Rows()
        runner = trainer(folder, max_epochs=EPOCHS, gradient_clip_val=4.0, logger=rows, **parallel)
        runner.fit(module, data)
        curves[name] = rows.curves
        if runner.is_global_zero:
            torch.save(module.state_dict(), folder / f"{name}.pt")
    if runner.is_global_zero:
        (folder / "curves.json").write_text(json.dumps(curves))


def main(folder: Path) -> None:
    """All numbers of processes at the same time."""
    warnings.filterwarnings("ignore", module="lightning.*")
    built = {name: build(name) for name in RECIPES}
    processes = {}
    for world in WORLDS:
        (folder / str(world)).mkdir()
        processes[world] = fork_group(world, partial(fit, built, world, folder / str(world)), folder / str(world))
    codes = [exit_code(process) for group in processes.values() for process in group]
    if any(codes):
        sys.exit("\n".join(path.read_text()[-2000:] for path in sorted(folder.glob("*/output*.txt"))))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
