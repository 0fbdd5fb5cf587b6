"""Where a run stands, between two batches: as a checkpoint keeps it, and as Lightning's loops want it to go on.

Lightning's own counters say in which hook they were saved, not which batch comes next: a run that ended by ``max_steps``
in the middle of an epoch has "processed" that epoch, one that was saved at an epoch's last batch has not. Here the
loader tells which clips of which epoch lie behind. Everything that touches Lightning's private counters is in this file;
they are those of Lightning 2.6.
"""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loops import evaluation_loop, training_epoch_loop
from lightning.pytorch.loops.loop import _Loop
from torch import Tensor, distributed, nn

from sslam_lightning.data.loader import ClipLoader
from sslam_lightning.training.sharding import share_of, whole
from sslam_lightning.training.update_losses import UpdateLosses


def keep_place(trainer: pl.Trainer, checkpoint: dict[str, Any]) -> None:
    """Rewrite the counters in a checkpoint: its epoch and batch are those that come next."""
    loader, fit_loop = trainer.train_dataloader, _counting(trainer)
    if not isinstance(loader, ClipLoader) or not loader.is_resumable:
        return
    batches, epochs = fit_loop.epoch_loop.batch_progress, fit_loop.epoch_progress
    state = loader.state_dict(broken_off=_batch_is_broken_off(trainer))
    epoch, batch = state["epoch"], loader.batches_behind(state["clips"])
    epoch_has_ended = epochs.current.processed > epoch
    validated = (trainer.validating and not _validation_is_broken_off(trainer)) or epoch_has_ended or batch == 0
    if epoch_has_ended and batch >= trainer.num_training_batches:
        epoch, batch = epoch + 1, 0
        state = {**state, "epoch": epoch, "clips": 0, "over": False}

    saved = checkpoint["loops"]["fit_loop"]
    saved["state_dict"]["combined_loader"] = [state]
    begun = epoch + (batch > 0)
    for tracker, count in (("current", batch), ("total", batches.total.processed)):
        saved["epoch_progress"][tracker] = {"ready": begun, "started": begun, "processed": epoch, "completed": epoch}
        saved["epoch_loop.batch_progress"][tracker] = dict.fromkeys(("ready", "started", "processed", "completed"), count)
    saved["epoch_loop.batch_progress"]["is_last_batch"] = False
    checkpoint["place"] = {**state, "validated": bool(validated)}


def find_place(trainer: pl.Trainer, place: dict[str, Any]) -> None:
    """Put loader and loops where ``place`` says; to be called when training starts, before its first epoch.

    Args:
        trainer: in the middle of ``fit``, with a checkpoint of `keep_place` restored.
        place: the checkpoint's: the loader's state, and whether a validation that is due there has been.
    """
    loader, fit_loop = trainer.train_dataloader, _counting(trainer)
    if not isinstance(loader, ClipLoader) or not loader.is_resumable:
        return
    loader.load_state_dict(place)  # Lightning does so too early where the schedule asks for the length of the run
    epoch_loop, val_loop = fit_loop.epoch_loop, fit_loop.epoch_loop.val_loop
    epoch_loop._batches_that_stepped = trainer.global_step
    for epochs in (fit_loop.epoch_progress.current, fit_loop.epoch_progress.total):
        epochs.ready = epochs.started = epochs.completed  # the hooks of its start have to be called in this run too
    fit_loop.reset_restart_stage()
    batch = loader.batches_behind()  # in today's batches, where their size or the number of ranks has changed
    _Loop.restarting.fset(fit_loop, batch > 0)  # type: ignore[attr-defined]  # the loop's own setter has an opinion
    if batch == 0:
        return
    current = epoch_loop.batch_progress.current
    current.ready = current.started = current.processed = current.completed = batch
    all_taken = batch >= trainer.num_training_batches
    epoch_loop.batch_progress.is_last_batch = fit_loop._data_fetcher.done = all_taken
    val_loop.batch_progress.reset()
    epoch_loop._restart_stage = training_epoch_loop.RestartStage.RESTARTED_ON_LAST
    if epoch_loop._should_check_val_fx(fit_loop._data_fetcher):
        # Lightning passes the end of the last batch again, to validate or to see that it is done.
        stages = evaluation_loop.RestartStage
        val_loop._restart_stage = stages.NONE if place["validated"] else stages.RESTARTED_MID_EVALUATION
        if not epoch_loop._should_accumulate():
            epoch_loop._batches_that_stepped -= 1


def gradients_in_flight(trainer: pl.Trainer, module: nn.Module) -> dict[str, Tensor] | None:
    """Gradients of every rank, one row each, that wait for more batches until the next update; None between updates."""
    if not _is_between_updates(trainer):
        return None
    return {name: _of_all_ranks(whole(p.grad)) for name, p in module.named_parameters() if p.grad is not None}


def restore_gradients(trainer: pl.Trainer, module: nn.Module, gradients: dict[str, Tensor]) -> None:
    """Give every rank its own, or, where their number has changed, their mean."""
    for name, parameter in module.named_parameters():
        if name in gradients:
            own = share_of_ranks(gradients[name], trainer)
            parameter.grad = share_of(own.to(parameter.device, copy=True), parameter)


def losses_in_flight(trainer: pl.Trainer, losses: UpdateLosses | None) -> Tensor | None:
    """Sums of losses of every rank, one row each, that wait for the same update."""
    if not _is_between_updates(trainer) or losses is None or losses.sums is None:
        return None
    return _of_all_ranks(losses.sums)


def share_of_ranks(ranks: Tensor, trainer: pl.Trainer) -> Tensor:
    """This rank's row, or, where the number of ranks has changed, the mean of all."""
    return ranks[trainer.global_rank] if len(ranks) == trainer.world_size else ranks.mean(dim=0)


def ends_update(trainer: pl.Trainer) -> bool:
    """Whether the batch that is being trained on is the last one of an update."""
    return not _counting(trainer)._should_accumulate()


def _is_between_updates(trainer: pl.Trainer) -> bool:
    """Whether batches are behind that wait for more until the next update."""
    accumulating = not ends_update(trainer) and trainer.fit_loop.epoch_loop.batch_idx >= 0
    return accumulating and not _batch_is_broken_off(trainer)


def _of_all_ranks(gradient: Tensor) -> Tensor:
    if not distributed.is_available() or not distributed.is_initialized():
        return gradient.unsqueeze(0).cpu()
    ranks = [torch.empty_like(gradient) for _ in range(distributed.get_world_size())]
    distributed.all_gather(ranks, gradient)
    return torch.stack([rank.cpu() for rank in ranks])


def _counting(trainer: pl.Trainer) -> Any:
    """The loop with its private counters."""
    return trainer.fit_loop


def _batch_is_broken_off(trainer: pl.Trainer) -> bool:
    """Whether a batch has been begun and not ended, as when an exception is on its way; such a batch comes again."""
    current = _counting(trainer).epoch_loop.batch_progress.current
    return bool(current.ready > current.processed)


def _validation_is_broken_off(trainer: pl.Trainer) -> bool:
    """Whether this is a batch of a validation and not its end; it is made anew."""
    current = _counting(trainer).epoch_loop.val_loop.batch_progress.current
    return bool(current.ready > current.completed)
