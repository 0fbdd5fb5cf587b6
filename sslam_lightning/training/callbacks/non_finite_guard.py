"""Clips gradients, skips steps whose gradients are not finite, and stops a run that has too many of them."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from sslam_lightning.training.run.progress import ends_step
from sslam_lightning.training.run.sharding import full_tensor

_LEAST_SCALE = 1e-4  # as fairseq; from 2^16 there have then been 30 skips in a row
_ADVICE = "Try a smaller learning rate, gradient clipping, or bf16 instead of fp16."


class NotFinite(RuntimeError):
    """The gradients are NaN or infinite."""

    for_users = True  # the message says it all


class LostWeights(NotFinite):
    """The weights themselves are NaN or infinite."""


class _SeenBatch(NamedTuple):
    names: Sequence[str]
    loss: Tensor


class NonFiniteGuard(pl.Callback):
    """Computes the norm of all gradients, logs it, clips by it, and skips the step on all ranks if it is not finite.

    The clips of skipped steps are listed in the run's folder, by every rank its own: ``not_finite_clips.csv``,
    ``not_finite_clips_rank1.csv`` and so on. Neither schedule nor teacher count a skipped step, only
    ``trainer.max_steps`` does. Weights that are not finite are never written to a checkpoint.

    Args:
        max_consecutive_skips: how many consecutive steps may be skipped; the next one ends the run. With fp16 the loss
            scaler skips steps by itself; then the run ends when it has halved its scale down to 1e-4.
    """

    def __init__(self, max_consecutive_skips: int = 5) -> None:
        if max_consecutive_skips < 0:
            raise ValueError(f"max_consecutive_skips must not be negative, got {max_consecutive_skips}")
        self.max_consecutive_skips = max_consecutive_skips
        self.skipped = 0
        self._in_a_row = 0
        self._is_finite = True
        self._seen: list[_SeenBatch] = []  # since the last step

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        limit = trainer.gradient_clip_val
        if limit is not None and not limit >= 0:  # a negative norm would turn the gradients round
            raise ValueError(f"gradient_clip_val must not be negative, got {limit}")

    def state_dict(self) -> dict[str, Any]:
        return {"skipped": self.skipped, "in_a_row": self._in_a_row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.skipped, self._in_a_row = state_dict["skipped"], state_dict["in_a_row"]

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = full_tensor(torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))
        self._is_finite = trainer.precision == "16-mixed" or bool(norm.isfinite())  # all ranks have the same norm
        if not self._is_finite:
            optimizer.zero_grad()  # without gradients the step moves nothing
            return
        by_norm = trainer.gradient_clip_algorithm in (None, "norm")
        if trainer.gradient_clip_val and by_norm and math.isfinite(trainer.gradient_clip_val):
            torch.nn.utils.clip_grads_with_norm_(parameters, trainer.gradient_clip_val, norm)
        pl_module.log("train/grad_norm", norm)
        pl_module.log("train/lr", max(group["lr"] for group in optimizer.param_groups))

    def on_train_batch_end(
        self, trainer: Any, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if outputs is not None:
            self._seen.append(_SeenBatch(getattr(batch, "names", ()), outputs["loss"]))
        if not ends_step(trainer):
            return
        step = trainer.global_step
        seen, self._seen = self._seen, []
        if self._is_finite:
            self._in_a_row = 0
            if step % max(1, trainer.log_every_n_steps) == 0:
                _check_scale(trainer)
            return
        self.skipped += 1
        self._in_a_row += 1
        path = _list_clips(trainer, seen)
        if self._in_a_row > self.max_consecutive_skips:
            raise NotFinite(
                f"the loss or its gradients became NaN or infinite in update {step}"
                + (f" and the {self._in_a_row - 1} before it" if self._in_a_row > 1 else "")
                + f"; the clips are listed in {path}, checkpoints before that are kept. {_ADVICE}"
            )
        rank_zero_warn(f"update {step} is skipped, it is not finite: its clips are listed in {path}")

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        _check_weights(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        _check_weights(trainer, pl_module)


def _check_weights(trainer: pl.Trainer, module: nn.Module) -> None:
    """Never write lost weights over good ones, nor end well with them."""
    lost = next((name for name, weight in _floats(module) if not torch.isfinite(weight).all()), None)
    if not trainer.strategy.reduce_boolean_decision(lost is None, all=True):
        raise LostWeights(
            f"{lost or 'a weight of another rank'} became NaN or infinite before update {trainer.global_step}; this "
            f"checkpoint was not written, earlier ones are kept. {_ADVICE}"
        )


def _check_scale(trainer: Any) -> None:
    scaler = getattr(getattr(trainer, "precision_plugin", None), "scaler", None)
    if scaler is not None and (scale := scaler.get_scale()) < _LEAST_SCALE:
        raise NotFinite(
            f"the gradients have been NaN or infinite for so long that fp16's loss scale has fallen to {scale:.1g} before "
            f"update {trainer.global_step}: nothing is learnt any more; checkpoints are kept. {_ADVICE}"
        )


def _floats(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Floating-point weights by name; of weights that are shared out this rank's share."""
    for name, weight in (*module.named_parameters(), *module.named_buffers()):
        if weight.is_floating_point():
            yield name, weight.to_local() if isinstance(weight, DTensor) else weight


def _list_clips(trainer: Any, seen: Sequence[_SeenBatch]) -> Path:
    rank = trainer.global_rank
    path = Path(trainer.default_root_dir) / f"not_finite_clips{f'_rank{rank}' if rank else ''}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    finite_here = all(bool(batch.loss.isfinite()) for batch in seen)
    new = not path.exists()
    with path.open("a", newline="") as file:
        rows = csv.writer(file)
        if new:
            rows.writerow(["update", "epoch", "rank", "finite_on_this_rank", "clip"])
        for batch in seen:
            rows.writerows([trainer.global_step, trainer.current_epoch, rank, finite_here, name] for name in batch.names)
    return path
