"""Leaves out updates whose loss or gradients are no numbers any more, and stops a run that has too many of them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.distributed.tensor import DTensor

_LEAST_SCALE = 1e-4  # as fairseq; from 2^16 there have then been 30 skips in a row
_ADVICE = "Try a smaller learning rate, gradient clipping, or bf16 instead of fp16."


class NotFinite(RuntimeError):
    """The loss is NaN or infinite."""

    for_users = True  # the message says it all


class LostWeights(NotFinite):
    """The weights themselves are NaN or infinite."""


class UpdateSkipped(Exception):
    """Leaves the optimizer's step before it changes a weight; see ``AudioModule.optimizer_step``."""


class Update(NamedTuple):
    """An update that has not been looked at yet: a look makes a GPU wait."""

    number: int
    epoch: int
    names: list[str]  # of this rank's clips
    finite: Tensor


class LossGuard(pl.Callback):
    """An update that is not finite is skipped on all ranks; the clips of all such updates are kept in the run's folder.

    Neither schedule nor teacher count a skipped update, only ``trainer.max_steps`` does. Every rank lists its own clips in
    ``not_finite_clips.csv`` (others than the first: ``not_finite_clips_rank1.csv`` and so on). A checkpoint that is due
    right behind a skipped update is left out: the weights before it may be the cause, and must not take a good
    checkpoint's place.

    Args:
        max_skips_in_a_row: how many updates one behind the other may be skipped; the next one ends the run. 0 ends the run
            at the first. To decide, a GPU is waited for once an update; with 0, or with fp16, whose loss scaler skips
            updates by itself, only every ``trainer.log_every_n_steps`` updates. With fp16 the run ends when the scaler has
            halved its scale down to 1e-4: no update has been made for long.
    """

    def __init__(self, max_skips_in_a_row: int = 5) -> None:
        if max_skips_in_a_row < 0:
            raise ValueError(f"max_skips_in_a_row must not be negative, got {max_skips_in_a_row}")
        self.max_skips_in_a_row = max_skips_in_a_row
        self.skipped = 0
        self._in_a_row = 0
        self._refused = False  # the last update
        self._finite: Tensor | None = None  # of the batches since the last update
        self._names: list[str] = []
        self._recent: list[Update] = []
        self._step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start at the trainer's step, which is not 0 in a resumed run."""
        self._step = trainer.global_step

    def state_dict(self) -> dict[str, Any]:
        """What the decision about the next update depends on: a resumed run meets the same batches and ends at the same."""
        return {"skipped": self.skipped, "in_a_row": self._in_a_row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.skipped, self._in_a_row = state_dict["skipped"], state_dict["in_a_row"]

    def allows(self, trainer: pl.Trainer, gradient_norm: Tensor) -> bool:
        """Whether an update may be made. All ranks ask about the same norm, which knows of a NaN on any of them."""
        if trainer.precision == "16-mixed":
            return True  # the loss scaler skips updates by itself, some at every start: only the loss is judged
        finite = torch.isfinite(gradient_norm)
        self._note(finite)
        self._refused = self.max_skips_in_a_row > 0 and not bool(finite)
        return not self._refused

    def on_train_batch_end(
        self, trainer: Any, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Remember whether the update was finite; ask at intervals, on CPUs always."""
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        if loss is None:
            return
        self._note(torch.isfinite(loss.detach()).all())
        self._names += getattr(batch, "names", ())
        if trainer.global_step == self._step:  # the update waits for more batches
            return
        self._step = trainer.global_step
        assert self._finite is not None, "noted above"
        self._recent.append(Update(self._step, getattr(trainer, "current_epoch", 0), self._names, self._finite))
        self._finite, self._names = None, []
        if self._refused:
            _leave_out_checkpoints(trainer)
        if loss.device.type == "cpu" or self._step % max(1, trainer.log_every_n_steps) == 0:
            self._check(trainer)
            _refuse_lost_scale(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Ask before checkpoints of the epoch are written."""
        self._check(trainer)

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Never write lost weights over whole ones: a gradient may be NaN where the loss is not."""
        self._check(trainer)
        checkpoint.setdefault("callbacks", {})[self.state_key] = self.state_dict()  # with what that look has found
        self._refuse_lost(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A run does not end well with lost weights, nor in silence where its last checkpoint was left out."""
        if not self._refused:
            return
        self._refuse_lost(trainer, pl_module)
        rank_zero_warn(
            f"the last update, {self._step}, was skipped, and its checkpoint left out: the newest is an earlier one"
        )

    def _refuse_lost(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        lost = next((name for name, weight in _floats(pl_module) if not torch.isfinite(weight).all()), None)
        if not trainer.strategy.reduce_boolean_decision(lost is None, all=True):
            raise LostWeights(
                f"{lost or 'a weight of another rank'} became NaN or infinite before update {trainer.global_step}; this "
                f"checkpoint was not written, earlier ones are kept. {_ADVICE}"
            )

    def _note(self, finite: Tensor) -> None:
        self._finite = finite if self._finite is None else self._finite & finite

    def _check(self, trainer: pl.Trainer) -> None:
        """Look at the updates since the last look; all ranks decide alike."""
        if not self._recent:
            return
        recent, self._recent = self._recent, []
        own = torch.stack([update.finite for update in recent]).float()
        anywhere = trainer.strategy.reduce(own.clone(), reduce_op="min").tolist()
        for update, finite_here, finite in zip(recent, own.tolist(), anywhere, strict=True):
            self._in_a_row = 0 if finite else self._in_a_row + 1
            if finite:
                continue
            self.skipped += 1
            path = _list_clips(trainer, update, bool(finite_here))
            if self._in_a_row > self.max_skips_in_a_row:
                raise NotFinite(
                    f"the loss or its gradients became NaN or infinite in update {update.number}"
                    + (f" and the {self._in_a_row - 1} before it" if self._in_a_row > 1 else "")
                    + f"; the clips are listed in {path}, checkpoints before that are kept. {_ADVICE}"
                )
            rank_zero_warn(f"update {update.number} is skipped, it is not finite: its clips are listed in {path}")


def _refuse_lost_scale(trainer: pl.Trainer) -> None:
    scaler = getattr(getattr(trainer, "precision_plugin", None), "scaler", None)
    if scaler is not None and (scale := scaler.get_scale()) < _LEAST_SCALE:
        raise NotFinite(
            f"the gradients have been NaN or infinite for so long that fp16's loss scale has fallen to {scale:.1g} before "
            f"update {trainer.global_step}: nothing is learnt any more; checkpoints are kept. {_ADVICE}"
        )


def _leave_out_checkpoints(trainer: Any) -> None:
    """Of this step: Lightning's own count as written."""
    for callback in getattr(trainer, "checkpoint_callbacks", ()):
        if isinstance(callback, ModelCheckpoint):
            callback._last_global_step_saved = trainer.global_step


def _floats(module: torch.nn.Module) -> Any:
    """Floating-point weights by name; of weights that are shared out this rank's share."""
    for name, weight in (*module.named_parameters(), *module.named_buffers()):
        if weight.is_floating_point():
            yield name, weight.to_local() if isinstance(weight, DTensor) else weight


def _list_clips(trainer: pl.Trainer, update: Update, finite_here: bool) -> Path:
    rank = getattr(trainer, "global_rank", 0)
    path = Path(trainer.default_root_dir) / f"not_finite_clips{f'_rank{rank}' if rank else ''}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a", newline="") as file:
        rows = csv.writer(file)
        if new:
            rows.writerow(["update", "epoch", "rank", "finite_on_this_rank", "clip"])
        rows.writerows([update.number, update.epoch, rank, finite_here, name] for name in update.names)
    return path
