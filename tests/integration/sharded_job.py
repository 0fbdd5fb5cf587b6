"""One of two processes that share out the weights among them (FSDP). Started by test_sharded.py."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from processes import meet
from tiny import Diary, KeepEveryBatch, finetune, pretrain, soundscapes, trainer

from sslam_lightning.training.callbacks import NonFiniteGuard, RunCheckpoint
from sslam_lightning.training.run.optimizers import OptimizerConfig
from sslam_lightning.training.run.sharding import ShardedStrategy

# What is validated leaves rank 1 without a second batch, but for "dino", where it has half of one.
VAL_CLIPS = {"stage 1": 5, "stage 2": 6, "dino": 7, "fine-tuning": 5}
CLIPS, BATCH, EPOCHS = 8, 4, 2  # BATCH over all processes, EPOCHS of two updates
OPTIMIZER = OptimizerConfig(lr=1e-3, eps=1e-4, weight_decay=0.2)  # see ddp_job.py
KINDS = {
    "stage 1": lambda: pretrain(noise_std=0.0, optimizer=OPTIMIZER),
    "stage 2": lambda: pretrain("stage 2", noise_std=0.0, optimizer=OPTIMIZER),
    "dino": lambda: pretrain("dino", noise_std=0.0, optimizer=OPTIMIZER),
    "fine-tuning": lambda: finetune(bce_reduction="clips", encoder={}, optimizer=replace(OPTIMIZER, layer_decay=0.65)),
}


class Falling(pl.Callback):
    """A score that is best after the first epoch."""

    def on_validation_epoch_end(self, trainer, pl_module) -> None:
        pl_module.log("val/falling", 1.0 - trainer.current_epoch)


def fit(kind: str, folder: Path, devices: int, first: int = 0) -> tuple[pl.Trainer, Diary]:
    """Train in one process or in several; with ``first`` epochs done, go on from their checkpoint."""
    pl.seed_everything(5 + first, verbose=False)  # other initial weights for a run that goes on
    diary = Diary()
    parallel = {"devices": devices, "strategy": ShardedStrategy() if devices > 1 else "auto"}
    settings = {"max_epochs": EPOCHS, "gradient_clip_val": 1.0, "keep_every_epoch": True, **parallel}
    keep = [Falling(), RunCheckpoint(folder / "kept", monitor="val/falling", mode="max")] if kind == "fine-tuning" else []
    runner = trainer(folder, diary, NonFiniteGuard(), *keep, **settings)
    path = folder / f"epoch={first - 1}.ckpt"
    data = soundscapes(CLIPS, VAL_CLIPS[kind], batch_size=BATCH // devices)
    runner.fit(KINDS[kind](), data, ckpt_path=path if first else None, weights_only=True)
    return runner, diary


def predict(kind: str, folder: Path, devices: int) -> dict[str, list[float]]:
    """What the trained model says of every clip of this process, by the clip's name."""
    parallel = {"devices": devices, "strategy": ShardedStrategy() if devices > 1 else "auto"}
    data = soundscapes(CLIPS, VAL_CLIPS[kind], batch_size=BATCH // devices)
    path = folder / f"epoch={EPOCHS - 1}.ckpt"
    batches = trainer(folder, **parallel).predict(KINDS[kind](), data, ckpt_path=path, weights_only=True)
    return {name: row for names, rows in batches for name, row in zip(names, rows.tolist(), strict=True)}


def interrupted(kind: str, folder: Path) -> list[str]:
    """Train with two batches an update; go on from between them; name the weights that then differ."""
    ends = []
    for place in (None, 1, 3):
        pl.seed_everything(5 if place is None else 9, verbose=False)
        keep = [KeepEveryBatch(folder)] if place is None else []
        settings = {"max_epochs": EPOCHS, "accumulate_grad_batches": 2, "limit_val_batches": 0}
        runner = trainer(folder, NonFiniteGuard(), *keep, devices=2, strategy=ShardedStrategy(), **settings)
        path = None if place is None else folder / f"batch{place}.ckpt"
        runner.fit(KINDS[kind](), soundscapes(CLIPS, 0, batch_size=BATCH // 2), ckpt_path=path, weights_only=True)
        assert runner.global_step == EPOCHS
        runner.save_checkpoint(folder / f"from {place}.ckpt")
        ends.append(torch.load(folder / f"from {place}.ckpt", weights_only=True)["state_dict"])
    whole, *others = ends
    return [name for end in others for name, weight in whole.items() if not torch.equal(weight, end[name])]


def main(folder: Path) -> None:
    """Train every kind, go on with a run of one process, and see what is refused."""
    kept: dict[str, Any] = {}
    for kind in KINDS:
        runner, diary = fit(kind, folder / "sharded" / kind, 2)
        weights = runner.lightning_module.trainable_modules()[0].blocks[0].mlp.fc1.weight
        validated = {name: float(value) for name, value in runner.callback_metrics.items() if name.startswith("val/")}
        kept[kind] = {"logged": diary.logged, "rows": weights.to_local().shape[0], "validated": validated}
    for kind in ("stage 1", "fine-tuning"):
        kept[kind]["predicted"] = predict(kind, folder / "sharded" / kind, 2)
    for kind in ("stage 2", "fine-tuning"):
        kept[kind]["differs"] = interrupted(kind, folder / "interrupted" / kind)
    fit("stage 2", folder / "alone, then sharded", 2, first=1)

    pl.seed_everything(5, verbose=False)
    start = pretrain("stage 2", noise_std=0.0, optimizer=OPTIMIZER)
    start.init_from = str(folder / "sharded/stage 1/epoch=1.ckpt")
    runner = trainer(folder, devices=2, strategy=ShardedStrategy(), max_epochs=1, limit_train_batches=0)
    runner.fit(start, soundscapes(CLIPS, 0, batch_size=2))
    kept["started from"] = {name: p.full_tensor() for name, p in start.student.named_parameters()}

    wider = pretrain(encoder_switches={"mlp_ratio": 2.0})
    for name, build, settings in (
        ("other size", lambda: wider, {"ckpt_path": folder / "sharded/stage 1/epoch=0.ckpt", "weights_only": True}),
        ("no clips", pretrain, {}),
    ):
        data = soundscapes(CLIPS, 0, batch_size=2)
        runner = trainer(folder, devices=2, strategy=ShardedStrategy(), max_epochs=3)
        module = build()
        if name == "no clips":
            module.is_empty = lambda batch: True
        try:
            runner.fit(module, data, **settings)
        except ValueError as error:
            kept[name] = str(error)
    torch.save(kept, folder / f"rank{os.environ['LOCAL_RANK']}.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    meet()
    main(Path(sys.argv[1]))
