"""Many recordings through a model: decoded ahead, batched across files, handed back in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from sslam_lightning.data.audio.read import UnreadableAudio
from sslam_lightning.inference.encoding import EncoderModel, Encodings, Level
from sslam_lightning.inference.sources import Source
from sslam_lightning.inference.windowing import Window, Windows
from sslam_lightning.whole_numbers import check_at_least

T = TypeVar("T")

_BATCH_FRAMES = 1024  # a batch is worth batch_size clips of ten seconds, whatever their number
_BATCHES_SORTED = 4  # windows of so many batches are sorted by length, so that little padding is computed
_END = object()


class End(NamedTuple):
    """A recording ends here."""

    source: int
    seconds: float


class Broken(NamedTuple):
    """A recording cannot be read, from here on or at all; what came of it before does not count."""

    source: int
    reason: str


class EncodedWindow(NamedTuple):
    """What the model makes of one window; see :class:`~sslam_lightning.inference.encoding.Encodings`, without rows."""

    source: int
    start_frame: int
    probs: Float[Tensor, "classes"] | None
    clip: Float[Tensor, "*layers dim"] | None
    frames: Float[Tensor, "time *layers dim"] | None
    patches: Float[Tensor, "time mel *layers dim"] | None
    num_frames: int


class _Waiting(NamedTuple):
    source: int
    window: Window
    frames: int  # how much work it is


@dataclass(frozen=True)
class EncodingPipeline:
    """How recordings go through a model.

    Args:
        model: the model, on its device.
        windows: how recordings are cut; None: as the model says.
        levels: the embeddings to compute.
        probs: whether to compute probabilities.
        batch_size: clips of ten seconds in a batch, or their worth in shorter or longer ones.
        workers: threads that decode; 0: decode in between.
    """

    model: EncoderModel
    windows: Windows | None = None
    levels: Sequence[Level] = ()
    probs: bool = False
    batch_size: int = 8
    workers: int = 2

    def __post_init__(self) -> None:
        check_at_least(1, batch_size=self.batch_size)
        check_at_least(0, workers=self.workers)

    def run(self, sources: Sequence[Source], first: int = 0) -> Iterator[EncodedWindow | End | Broken]:
        """Every window of every recording from number ``first`` on, in order, an End or Broken after the last of each."""
        windows = self.windows or self.model.windows()
        jobs = (partial(self._read, number, sources[number], windows) for number in range(first, len(sources)))
        # Results of all layers are large: no more of them at once than a batch has.
        room = self.batch_size * _BATCH_FRAMES * (1 if self.model.layer == "all" else _BATCHES_SORTED)
        waiting: list[_Waiting | End | Broken] = []
        frames = 0
        for item in prefetch(jobs, self.workers, max(2 * self.batch_size, self.workers)):
            waiting.append(item)
            frames += item.frames if isinstance(item, _Waiting) else 0
            if frames >= room:
                yield from self._encode(waiting)
                waiting, frames = [], 0
        yield from self._encode(waiting)

    def _read(self, number: int, source: Source, windows: Windows) -> Iterator[_Waiting | End | Broken]:
        stop = 0
        try:
            for window in self.model.read_windows(source.path, windows):
                stop = window.stop_samples
                yield _Waiting(number, window, max(_BATCH_FRAMES, self.model.worth_frames(window.content[0])))
        except UnreadableAudio as error:
            yield Broken(number, str(error).removeprefix(f"{source.path}: "))
        else:
            yield End(number, stop * self.model.sample_seconds)

    def _encode(self, waiting: list[_Waiting | End | Broken]) -> Iterator[EncodedWindow | End | Broken]:
        encoded: dict[int, EncodedWindow] = {}
        for batch in self._batches([(place, item) for place, item in enumerate(waiting) if isinstance(item, _Waiting)]):
            contents = [item.window.content[0] for _, item in batch]
            lengths = torch.tensor([len(content) for content in contents], device="cpu")
            padded = torch.nn.utils.rnn.pad_sequence(contents, batch_first=True)
            rows = _rows(self.model.encode(padded, lengths, self.levels, self.probs))
            for (place, item), row in zip(batch, rows, strict=True):
                encoded[place] = EncodedWindow(item.source, item.window.start_frame, *row)
        for place, waited in enumerate(waiting):
            yield encoded.pop(place) if isinstance(waited, _Waiting) else waited

    def _batches(self, windows: list[tuple[int, _Waiting]]) -> Iterator[list[tuple[int, _Waiting]]]:
        """Windows of about one length, longest first: what does not fit into memory fails at once."""
        windows.sort(key=lambda window: -window[1].frames)
        while windows:
            size = max(1, self.batch_size * _BATCH_FRAMES // windows[0][1].frames)
            yield windows[:size]
            windows = windows[size:]


def _rows(encodings: Encodings) -> Iterator[tuple[Any, ...]]:
    """Row by row, on the CPU, without the padding; each its own memory, so that keeping one does not keep all."""
    parts = [None if part is None else part.cpu() for part in encodings[:4]]
    for row, length in enumerate(encodings.num_frames.tolist()):
        stops = (None, None, length, length)  # probabilities and clip have no time
        yield *(None if x is None else x[row][:stop].clone() for x, stop in zip(parts, stops, strict=True)), length


def prefetch(jobs: Iterable[Callable[[], Iterable[T]]], threads: int, jobs_ahead: int) -> Iterator[T]:
    """The items of the first job, then those of the second, and so on, while threads work on the next item of each.

    The order does not depend on the threads. Decoders and resamplers release the interpreter while they work, so
    threads are enough, and start at once.

    Args:
        jobs: each called once and iterated in threads. An exception in it is raised here, in its place.
        threads: how many; 0: each item is made where it is asked for.
        jobs_ahead: how many jobs may be under way or wait to be fetched.
    """
    if threads == 0:
        for job in jobs:
            yield from job()
        return
    jobs, ahead = iter(jobs), deque[tuple[Iterator[T], Future[Any]]]()
    pool = ThreadPoolExecutor(threads)

    def begin(count: int) -> None:
        for job in islice(jobs, count):
            items = iter(job())
            ahead.append((items, pool.submit(next, items, _END)))

    try:
        begin(jobs_ahead)
        while ahead:
            items, future = ahead.popleft()
            while (item := future.result()) is not _END:
                future = pool.submit(next, items, _END)
                yield item
            begin(1)
    finally:
        pool.shutdown(cancel_futures=True)
