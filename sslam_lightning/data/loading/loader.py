"""The loader of every data module: it can continue in the middle of an epoch."""

from __future__ import annotations

import faulthandler
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

from torch.utils.data import DataLoader

from sslam_lightning.data.loading.collate import collate
from sslam_lightning.data.loading.dataset import ClipDataset
from sslam_lightning.data.loading.sampler import EpochSampler
from sslam_lightning.types import Batch

_log = logging.getLogger(__name__)


class _Place(NamedTuple):
    epoch: int
    clips: int  # of its order, over all ranks


class ClipLoader(DataLoader[Any]):
    """A `DataLoader` of clips that can continue in the middle of an epoch.

    Its state is the epoch and the number of clips of the epoch's order that have been handed out, over all ranks. So it
    is the same on every rank, does not count what workers have prefetched, and also fits another number of ranks,
    another batch size or other workers: then the rest of the epoch is cut into other batches.

    Args:
        dataset: clips by ``(epoch, index)``.
        options: of `DataLoader`. With an `EpochSampler` as ``sampler`` it can be resumed.
    """

    def __init__(self, dataset: ClipDataset, **options: Any) -> None:
        self._handed_out = _Place(0, 0)
        self._resumed = (0, 0)  # epoch, clips
        self._names: str | None = None  # the fingerprint of the data set's
        options.setdefault("collate_fn", collate)
        options.setdefault("worker_init_fn", _start_worker)
        super().__init__(dataset, **options)

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        # A generator reads nothing before the first batch is asked for: only then has Lightning set the epoch.
        sampler = self.sampler
        if not isinstance(sampler, EpochSampler):
            yield from super().__iter__()
            return
        epoch, start = self._resumed
        sampler.start = start if sampler.epoch == epoch else 0
        epoch, clips = sampler.epoch, sampler.start
        for batch in super().__iter__():
            clips += sampler.global_batch_size
            self._handed_out = _Place(epoch, clips)
            yield batch

    @property
    def is_resumable(self) -> bool:
        """Whether clips come from an `EpochSampler`; Lightning replaces it to overfit on a few batches."""
        return isinstance(self.sampler, EpochSampler)

    def state_dict(self, repeat: int = 0) -> dict[str, Any]:
        """The position and what the order depends on; the last ``repeat`` batches have to come again."""
        sampler = self.sampler
        if not isinstance(sampler, EpochSampler):
            return {}
        clips = 0  # of a new epoch
        if self._handed_out.epoch == sampler.epoch:
            begun = self._resumed[1] if self._resumed[0] == sampler.epoch else 0
            clips = max(begun, self._handed_out.clips - repeat * sampler.global_batch_size)
        over = sampler.num_batches(clips) == 0
        return {"epoch": sampler.epoch, "clips": clips, "over": over, "order": self._order_settings(sampler)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from there.

        Raises:
            ValueError: in the middle of an epoch whose clips would now come in another order.
        """
        sampler = self.sampler
        if not isinstance(sampler, EpochSampler) or not state:
            return
        now = self._order_settings(sampler)
        changed = [name for name in now if now[name] != state["order"][name]]
        # An epoch that is over is so whatever the batches are now, with the clips that fill its last update.
        clips = sampler.num_batches() * sampler.global_batch_size if state["over"] else state["clips"]
        changes = ", ".join(f"{name.replace('_', ' ')} {state['order'][name]} (now {now[name]})" for name in changed)
        if changed and (not clips or state["over"]):
            _log.warning("the run goes on with other data, or in another order, than the checkpoint's: %s", changes)
        elif changed:
            raise ValueError(
                f"the checkpoint stands in the middle of epoch {state['epoch']}, whose order was made with {changes}: "
                "go on with the same data, or from a checkpoint between two epochs"
            )
        self._resumed = (state["epoch"], clips)
        self._handed_out = _Place(state["epoch"], clips)
        sampler.set_epoch(state["epoch"])

    def batches_behind(self, clips: int | None = None) -> int:
        """Batches of the epoch that lie behind, in batches of today's size."""
        sampler = self.sampler
        if not isinstance(sampler, EpochSampler):
            return 0
        clips = self.state_dict()["clips"] if clips is None else clips
        return sampler.num_batches() - sampler.num_batches(clips)

    def _order_settings(self, sampler: EpochSampler) -> dict[str, Any]:
        if self._names is None:
            self._names = self.dataset.fingerprint()  # type: ignore[attr-defined]
        return {
            "clips": sampler.num_clips,
            "names": self._names,
            "seed": sampler.seed,
            "samples_per_epoch": sampler.samples_per_epoch,
            "sum_of_weights": None if sampler.weights is None else float(sampler.weights.sum()),
        }


def _start_worker(worker: int) -> None:
    """Show where a decoder crashes, and read on when the whole job is signalled (by Slurm, or Ctrl-C in a terminal).

    The run that received the signal wants to finish its step, which it could not without workers. It still ends them.
    """
    faulthandler.enable(2)  # the error stream itself: in notebooks sys.stderr is no file
    for meant_for_the_run in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(meant_for_the_run, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None and hasattr(signal, "sigwaitinfo"):  # tells who sent it; not on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_exit_on_sigterm_of, args=(parent.pid,), daemon=True).start()


def _exit_on_sigterm_of(parent: int | None) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
