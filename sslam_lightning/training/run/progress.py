"""Where a run stands, as a checkpoint keeps it and as Lightning's loops want it to continue.

Lightning's own counters say in which hook they were saved, not which batch comes next: a run that ended by ``max_steps``
in the middle of an epoch has "processed" that epoch, one that was saved at an epoch's last batch has not. Here the
loader tells which clips of which epoch have been used. A checkpoint always stands between two optimizer steps: weights
do not move while gradients accumulate, so one that is written in the middle of a step repeats that step's batches.

Everything that touches Lightning's private counters is in this file; they are those of Lightning 2.6.
"""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.loops import evaluation_loop, training_epoch_loop
from lightning.pytorch.loops.loop import _Loop

from sslam_lightning.data.loading.loader import ClipLoader


def save_progress(trainer: pl.Trainer, checkpoint: dict[str, Any]) -> None:
    """Rewrite the counters in a checkpoint: its epoch and batch are those of the next optimizer step."""
    loader, fit_loop = trainer.train_dataloader, _counting(trainer)
    if not isinstance(loader, ClipLoader) or not loader.is_resumable:
        return
    batches, epochs = fit_loop.epoch_loop.batch_progress, fit_loop.epoch_progress
    repeated = _batches_to_repeat(trainer)
    state = loader.state_dict(repeated)
    epoch, batch = state["epoch"], loader.batches_behind(state["clips"])
    epoch_has_ended = epochs.current.processed > epoch
    in_validation = trainer.validating and not _is_validation_interrupted(trainer)
    validated = in_validation or repeated > 0 or epoch_has_ended or batch == 0
    if epoch_has_ended and batch >= trainer.num_training_batches:
        epoch, batch = epoch + 1, 0
        state = {**state, "epoch": epoch, "clips": 0, "over": False}

    saved = checkpoint["loops"]["fit_loop"]
    saved["state_dict"]["combined_loader"] = [state]
    begun = epoch + (batch > 0)
    total = batches.total.processed - max(0, repeated - (batches.current.ready - batches.current.processed))
    for tracker, count in (("current", batch), ("total", total)):
        saved["epoch_progress"][tracker] = {"ready": begun, "started": begun, "processed": epoch, "completed": epoch}
        saved["epoch_loop.batch_progress"][tracker] = dict.fromkeys(("ready", "started", "processed", "completed"), count)
    saved["epoch_loop.batch_progress"]["is_last_batch"] = False
    checkpoint["train_progress"] = {**state, "validated": bool(validated)}


def restore_progress(trainer: pl.Trainer, progress: dict[str, Any]) -> None:
    """Put loader and loops where ``progress`` says; to be called when training starts, before its first epoch.

    Args:
        trainer: in the middle of ``fit``, with a checkpoint of `save_progress` restored.
        progress: the checkpoint's: the loader's state, and whether a validation that is due there has been.
    """
    loader, fit_loop = trainer.train_dataloader, _counting(trainer)
    if not isinstance(loader, ClipLoader) or not loader.is_resumable:
        return
    loader.load_state_dict(progress)  # Lightning does so too early where the schedule asks for the length of the run
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
        val_loop._restart_stage = stages.NONE if progress["validated"] else stages.RESTARTED_MID_EVALUATION
        if not epoch_loop._should_accumulate():
            epoch_loop._batches_that_stepped -= 1


def ends_step(trainer: pl.Trainer) -> bool:
    """Whether the batch that is being trained on is the last one of an optimizer step."""
    return not _counting(trainer)._should_accumulate()


def _batches_to_repeat(trainer: pl.Trainer) -> int:
    """Batches since the last optimizer step: those whose gradients wait for more, and one that was not finished."""
    current = _counting(trainer).epoch_loop.batch_progress.current
    if current.ready == current.processed and ends_step(trainer):
        return 0
    return int(current.ready - current.processed + current.processed % trainer.accumulate_grad_batches)


def _counting(trainer: pl.Trainer) -> Any:
    """The loop with its private counters."""
    return trainer.fit_loop


def _is_validation_interrupted(trainer: pl.Trainer) -> bool:
    """Whether this is a batch of a validation and not its end; the validation is repeated."""
    current = _counting(trainer).epoch_loop.val_loop.batch_progress.current
    return bool(current.ready > current.completed)
