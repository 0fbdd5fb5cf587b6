"""The loader of every data module: it knows where in the epoch it stands, and what its workers are reading."""

from __future__ import annotations

import faulthandler
import logging
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from sslam_lightning.data.collate import collate
from sslam_lightning.data.dataset import BrokenClip, ClipDataset, Key
from sslam_lightning.data.sampler import EpochSampler
from sslam_lightning.data.worker_signals import leave_signals_to_the_run
from sslam_lightning.types import Batch, Clip

_log = logging.getLogger(__name__)
_IDLE = -1


class _Place(NamedTuple):
    epoch: int
    clips: int  # of its order, over all ranks
    before_last: int  # the same, before the last batch


class WatchedDataset(Dataset[Clip | BrokenClip]):
    """The data set as workers see it: each notes in shared memory which clip it is reading."""

    def __init__(self, clips: ClipDataset, num_workers: int) -> None:
        self.clips = clips
        self.reading = torch.full((num_workers,), _IDLE, device="cpu").share_memory_()

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, key: Key) -> Clip | BrokenClip:
        worker = get_worker_info()
        if worker is None:
            return self.clips[key]
        self.reading[worker.id] = key if isinstance(key, int) else key[1]
        clip = self.clips[key]
        self.reading[worker.id] = _IDLE
        return clip

    def being_read(self) -> list[str]:
        """The clips that workers have begun and not finished: of one that hangs or has died, too."""
        return [self.clips.name(index) for index in self.reading.tolist() if index != _IDLE]


class ClipLoader(DataLoader[Any]):
    """A `DataLoader` of clips that can go on in the middle of an epoch.

    Its state is the epoch and the number of clips of the epoch's order that have been handed out, over all ranks. So it
    is the same on every rank, counts nothing that workers have read ahead, and also fits another number of ranks,
    another batch size or other workers: then the rest of the epoch is cut into other batches.

    Args:
        dataset: clips by ``(epoch, index)``.
        options: of `DataLoader`. With an `EpochSampler` as ``sampler`` it can be resumed.
    """

    def __init__(self, dataset: ClipDataset | WatchedDataset, **options: Any) -> None:
        self._handed_out = _Place(0, 0, 0)
        self._resumed = (0, 0)  # epoch, clips
        self._names: str | None = None  # the fingerprint of the data set's
        options.setdefault("collate_fn", collate)
        options.setdefault("worker_init_fn", _start_worker)
        clips = dataset.clips if isinstance(dataset, WatchedDataset) else dataset  # Lightning may build the loader anew
        super().__init__(WatchedDataset(clips, options.get("num_workers", 0)), **options)

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        # A generator, so that nothing is read before the first batch is asked for: only then Lightning has told the epoch.
        sampler = self.sampler
        if not isinstance(sampler, EpochSampler):
            yield from super().__iter__()
            return
        epoch, start = self._resumed
        sampler.start = start if sampler.epoch == epoch else 0
        epoch, clips = sampler.epoch, sampler.start
        for batch in super().__iter__():
            before, clips = clips, clips + sampler.global_batch_size
            self._handed_out = _Place(epoch, clips, before)
            yield batch

    @property
    def is_resumable(self) -> bool:
        """Whether clips come from an `EpochSampler`; Lightning puts in another one to overfit on a few batches."""
        return isinstance(self.sampler, EpochSampler)

    def being_read(self) -> list[str]:
        """The clips that workers have begun and not finished."""
        names: list[str] = self.dataset.being_read()  # type: ignore[attr-defined]
        return names

    def state_dict(self, broken_off: bool = False) -> dict[str, Any]:
        """Where the loader stands, and what the order depends on; ``broken_off``: the last batch has to come again."""
        sampler = self.sampler
        if not isinstance(sampler, EpochSampler):
            return {}
        clips = 0  # of a new epoch
        if self._handed_out.epoch == sampler.epoch:
            clips = self._handed_out.before_last if broken_off else self._handed_out.clips
        over = sampler.num_batches(clips) == 0
        return {"epoch": sampler.epoch, "clips": clips, "over": over, "order": self._order_settings(sampler)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there.

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
        told = ", ".join(f"{name.replace('_', ' ')} {state['order'][name]} (now {now[name]})" for name in changed)
        if changed and (not clips or state["over"]):
            _log.warning("the run goes on with other data, or in another order, than the checkpoint's: %s", told)
        elif changed:
            raise ValueError(
                f"the checkpoint stands in the middle of epoch {state['epoch']}, whose order was made with {told}: "
                "go on with the same data, or from a checkpoint between two epochs"
            )
        self._resumed = (state["epoch"], clips)
        self._handed_out = _Place(state["epoch"], clips, clips)
        sampler.set_epoch(state["epoch"])

    def batches_behind(self, clips: int | None = None) -> int:
        """Batches of the epoch that lie behind, in batches of today's size."""
        sampler = self.sampler
        if not isinstance(sampler, EpochSampler):
            return 0
        clips = self.state_dict()["clips"] if clips is None else clips
        return sampler.num_batches() - sampler.num_batches(clips)

    def _order_settings(self, sampler: EpochSampler) -> dict[str, Any]:
        """What the order of an epoch depends on."""
        if self._names is None:
            self._names = self.dataset.clips.fingerprint()  # type: ignore[attr-defined]
        weights: Tensor | None = sampler.weights
        return {
            "clips": sampler.num_clips,
            "names": self._names,
            "seed": sampler.seed,
            "samples_per_epoch": sampler.samples_per_epoch,
            "sum_of_weights": None if weights is None else float(weights.sum()),
        }


def _start_worker(worker: int) -> None:
    """A decoder that crashes shows where in the code; signals to the whole job are the run's."""
    faulthandler.enable(2)  # the error stream itself: in notebooks sys.stderr is no file
    leave_signals_to_the_run()
