"""One of two processes, one of which loses the gradients of a batch. Started by test_trouble.py."""

from __future__ import annotations

import sys
from pathlib import Path

import lightning.pytorch as pl
import torch
from processes import meet
from tiny import ema_callback, pretrain, soundscapes, trainer

from sslam_lightning.training.callbacks import NonFiniteGuard

SICK_BATCH = 2


class LoseLoss(pl.Callback):
    """Spoils the third batch of rank 1."""

    def on_before_backward(self, trainer, pl_module, loss) -> None:
        if trainer.global_rank == 1 and trainer.fit_loop.epoch_loop.batch_idx == SICK_BATCH:
            loss.register_hook(lambda gradient: gradient * float("nan"))


def main(folder: Path) -> None:
    """What one process does."""
    pl.seed_everything(5, verbose=False)
    runner = trainer(folder, LoseLoss(), NonFiniteGuard(), devices=2, strategy="ddp", max_epochs=1)
    module = pretrain()
    runner.fit(module, soundscapes(24, batch_size=2))
    kept = {"state": module.state_dict(), "updates": ema_callback(runner).updates, "step": runner.global_step}
    torch.save(kept, folder / f"rank{runner.global_rank}.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    meet()
    main(Path(sys.argv[1]))
