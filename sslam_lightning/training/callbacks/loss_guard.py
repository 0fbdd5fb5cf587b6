"""Stops a run whose loss is no number any more, before it is saved."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch


class NotFinite(RuntimeError):
    """The loss is NaN or infinite."""

    for_users = True  # the message says it all


class LossGuard(pl.Callback):
    """Looks at the loss without making the device wait for it, except every ``trainer.log_every_n_steps`` batches."""

    def __init__(self) -> None:
        self._finite: torch.Tensor | None = None
        self._since = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start at the trainer's step, which is not 0 in a resumed run."""
        self._since = trainer.global_step

    def on_train_batch_end(
        self, trainer: Any, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Remember whether all losses were finite; ask at intervals."""
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        if loss is None:
            return
        finite = torch.isfinite(loss.detach()).all()
        self._finite = finite if self._finite is None else self._finite & finite
        on_cpu = loss.device.type == "cpu"
        if on_cpu or (batch_idx + 1) % max(1, trainer.log_every_n_steps) == 0:
            self._check(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Ask before checkpoints of the epoch are written."""
        self._check(trainer)

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Never write lost weights over whole ones: a gradient may be NaN where the loss is not."""
        self._check(trainer)
        for name, weight in (*pl_module.named_parameters(), *pl_module.named_buffers()):
            if weight.is_floating_point() and not torch.isfinite(weight).all():
                raise NotFinite(
                    f"{name} became NaN or infinite before update {trainer.global_step}; this checkpoint was not written, "
                    "earlier ones are kept. Try a smaller learning rate, gradient clipping, or bf16 instead of fp16."
                )

    def _check(self, trainer: pl.Trainer) -> None:
        if self._finite is None:
            return
        if not trainer.strategy.reduce_boolean_decision(bool(self._finite), all=True):  # all ranks stop together
            self._finite = None
            raise NotFinite(
                f"the loss became NaN or infinite between updates {self._since} and {trainer.global_step}; checkpoints "
                "before that are kept. Try a smaller learning rate, gradient clipping, or bf16 instead of fp16."
            )
        self._finite, self._since = None, trainer.global_step
