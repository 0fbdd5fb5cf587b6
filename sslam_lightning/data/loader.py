"""The loader of every data module: it knows where in the epoch it stands, and what its workers are reading."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info
from torch.utils.data._utils import signal_handling
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from sslam_lightning.data.collate import collate
from sslam_lightning.data.dataset import BrokenClip, ClipDataset, Key
from sslam_lightning.data.sampler import EpochSampler
from sslam_lightning.data.worker_signals import leave_signals_to_the_run
from sslam_lightning.types import Batch, Clip

_log = logging.getLogger(__name__)
_IDLE = -1
_LOOK_SECONDS = 5.0  # between two looks whether the workers still live
_TIMED_OUT = "DataLoader timed out"  # how PyTorch's messages begin
_WORKER_TROUBLE = ("DataLoader worker", _TIMED_OUT)
_HALF_SENT = (ConnectionError, EOFError, FileNotFoundError)  # what a batch ends in whose worker dies as it is fetched
_GRACE_SECONDS = 0.5


class _Place(NamedTuple):
    epoch: int
    clips: int  # of its order, over all ranks
    before_last: int  # the same, before the last batch


class LostWorker(RuntimeError):
    """A worker has died or hangs."""

    for_users = True  # the message says it all


class WatchedDataset(Dataset[Clip | BrokenClip]):
    """The data set as workers see it: each notes in shared memory which clip it is reading."""

    def __init__(self, clips: ClipDataset, num_workers: int) -> None:
        self.clips = clips
        self.reading = torch.full((num_workers,), _IDLE).share_memory_()

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

    def names(self, workers: list[int]) -> list[str]:
        """What these workers are reading now, or were when they died."""
        return [self.clips.name(index) for w in workers if (index := int(self.reading[w])) != _IDLE]


class ClipLoader(DataLoader[Any]):
    """A `DataLoader` of clips that can go on in the middle of an epoch and names the file that a worker broke on.

    Its state is the epoch and the number of clips of the epoch's order that have been handed out, over all ranks. So it
    is the same on every rank, counts nothing that workers have read ahead, and also fits another number of ranks,
    another batch size or other workers: then the rest of the epoch is cut into other batches.

    Args:
        dataset: clips by ``(epoch, index)``.
        worker_timeout_seconds: raise when the workers give nothing for so long; 0: wait for ever.
        options: of `DataLoader`, but for its ``timeout``. With an `EpochSampler` as ``sampler`` it can be resumed; with
            ``persistent_workers`` alone are files named.
    """

    def __init__(self, dataset: ClipDataset | WatchedDataset, worker_timeout_seconds: float = 0.0, **options: Any) -> None:
        self.worker_timeout_seconds = worker_timeout_seconds
        self._handed_out = _Place(0, 0, 0)
        self._resumed = (0, 0)  # epoch, clips
        self._names: str | None = None  # the fingerprint of the data set's
        options.setdefault("collate_fn", collate)
        options.setdefault("worker_init_fn", leave_signals_to_the_run)
        if options.get("num_workers"):
            options["timeout"] = min(_LOOK_SECONDS, worker_timeout_seconds or _LOOK_SECONDS)
        clips = dataset.clips if isinstance(dataset, WatchedDataset) else dataset  # Lightning may build the loader anew
        super().__init__(WatchedDataset(clips, options.get("num_workers", 0)), **options)

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        # A generator, so that nothing is read before the first batch is asked for: only then Lightning has told the epoch.
        sampler = self.sampler
        if not isinstance(sampler, EpochSampler):
            yield from self._naming_files()
            return
        epoch, start = self._resumed
        sampler.start = start if sampler.epoch == epoch else 0
        epoch, clips = sampler.epoch, sampler.start
        for batch in self._naming_files():
            before, clips = clips, clips + sampler.global_batch_size
            self._handed_out = _Place(epoch, clips, before)
            yield batch

    @property
    def is_resumable(self) -> bool:
        """Whether clips come from an `EpochSampler`; Lightning puts in another one to overfit on a few batches."""
        return isinstance(self.sampler, EpochSampler)

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

    def explain(self, error: BaseException) -> None:
        """Rewrite an error in which PyTorch tells of a lost worker; it is raised wherever the main process is by then."""
        message = self._lost_worker(error) if isinstance(error, RuntimeError) else None
        if message and not isinstance(error, LostWorker):
            error.args = (message,)
            error.for_users = True  # type: ignore[attr-defined]  # the message says it all

    def _lost_worker(self, error: BaseException) -> str | None:
        """The line that says which file a worker died or hangs on; None where the error is about something else."""
        told = isinstance(error, RuntimeError) and str(error).startswith(_WORKER_TROUBLE)
        workers = getattr(self._iterator, "_workers", [])
        if not workers or not (told or isinstance(error, _HALF_SENT)):
            return None
        pids = {int(pid) for found in re.findall(r"\(pid(?:\(s\))? ([\d, ]+)\)", str(error)) for pid in found.split(",")}
        if told and pids and pids.isdisjoint(worker.pid for worker in workers):
            return None  # another loader's
        if not told:
            workers[0].join(_GRACE_SECONDS)  # a process is gone a little after its connections
        dead = [number for number, worker in enumerate(workers) if not worker.is_alive()]
        if not dead and not told:
            return None
        names = self.dataset.names(dead or list(range(len(workers))))  # type: ignore[attr-defined]
        silent = f"gave nothing for {self.worker_timeout_seconds:g} s"
        what = f"died ({_exit(workers[dead[0]].exitcode)})" if dead else silent
        _end(self._iterator)
        self._iterator = None  # whoever iterates again gets new workers
        file = f"while reading {' or '.join(names)}" if names else "between two files"
        return f"a data worker {what} {file}; data.num_workers: 0 reads in the main process"

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

    def _begin(self) -> Iterator[Batch]:
        """PyTorch's iterator. Workers that are still reading for an iteration that was broken off have time to finish."""
        if self._iterator is not None:
            self._iterator._timeout = self.worker_timeout_seconds  # one look is not enough here
        batches = super().__iter__()
        if isinstance(batches, _MultiProcessingDataLoaderIter):
            batches._timeout = self.timeout
        return batches

    def _naming_files(self) -> Iterator[Batch]:
        batches: Iterator[Batch] | None = None
        waited = 0.0
        while True:
            try:
                batches = batches or self._begin()
                batch = next(batches)
            except StopIteration:
                return
            except (RuntimeError, *_HALF_SENT) as error:
                waited += self.timeout
                patient = not 0 < self.worker_timeout_seconds <= waited
                if str(error).startswith(_TIMED_OUT) and patient:
                    continue  # nothing is lost: the same batch is waited for again
                if message := self._lost_worker(error):
                    raise LostWorker(message) from error
                raise
            waited = 0.0
            yield batch


def _end(iterator: Any) -> None:
    """Kill the workers, else whoever tidies up waits for those that hang, perhaps in a decoder that hears no signal."""
    if iterator._worker_pids_set:  # else PyTorch raises, wherever the main process then is, that they have been killed
        signal_handling._remove_worker_pids(id(iterator))
        iterator._worker_pids_set = False
    for worker in iterator._workers:
        worker.kill()


def _exit(code: int | None) -> str:
    return f"killed by signal {-code}" if code is not None and code < 0 else f"exit code {code}"
