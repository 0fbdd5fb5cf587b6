"""Many recordings through a model: decoded ahead, batched across files, handed back in order and joined."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from sslam_lightning.data.audio import UnreadableAudio
from sslam_lightning.inference.encoding import EncoderModel, Encodings, Level
from sslam_lightning.inference.read_ahead import read_ahead
from sslam_lightning.inference.sources import Source
from sslam_lightning.inference.spans import Windows
from sslam_lightning.whole_numbers import check_at_least

_BATCH_FRAMES = 1024  # a batch is worth batch_size clips of ten seconds, whatever their number
_BATCHES_SORTED = 4  # windows of so many batches are sorted by length, so that little padding is computed


class Window(NamedTuple):
    """A part of a file: of a recording decoded and at the model's rate."""

    source: int
    start_frame: int
    content: Shaped[Tensor, "length *shape"]


class End(NamedTuple):
    """A recording ends here."""

    source: int
    seconds: float


class Broken(NamedTuple):
    """A recording cannot be read, from here on or at all; what came of it before does not count."""

    source: int
    reason: str


class EncodedWindow(NamedTuple):
    """What the model makes of one window; see :class:`~sslam_lightning.inference.model.Encodings`, without rows."""

    source: int
    start_frame: int
    tags: Float[Tensor, "classes"] | None
    clip: Float[Tensor, "*layers dim"] | None
    frames: Float[Tensor, "time *layers dim"] | None
    patches: Float[Tensor, "time mel *layers dim"] | None
    num_frames: int


@dataclass(frozen=True)
class Work:
    """How recordings go through a model.

    Args:
        model: the model, on its device.
        windows: how recordings are cut; None: as the model says.
        levels: the embeddings that are wanted.
        tags: whether tags are wanted.
        batch_size: clips of ten seconds in a batch, or their worth in shorter or longer ones.
        workers: threads that decode; 0: decode in between.
    """

    model: EncoderModel
    windows: Windows | None = None
    levels: Sequence[Level] = ()
    tags: bool = False
    batch_size: int = 8
    workers: int = 2
    _cut: Windows = field(init=False)

    def __post_init__(self) -> None:
        check_at_least(1, batch_size=self.batch_size)
        check_at_least(0, workers=self.workers)
        object.__setattr__(self, "_cut", self.windows or self.model.windows())

    def run(self, sources: Sequence[Source], first: int = 0) -> Iterator[EncodedWindow | End | Broken]:
        """Every window of every recording from number ``first`` on, in order, an End or Broken behind the last of each."""
        jobs = (partial(self._read, number, sources[number]) for number in range(first, len(sources)))
        items = read_ahead(jobs, self.workers, max(2 * self.batch_size, self.workers))
        for waiting in self._pools(items):
            yield from self._encode(waiting)

    def _read(self, number: int, source: Source) -> Iterator[Window | End | Broken]:
        stop = 0
        try:
            for piece in self.model.pieces(source.path, self._cut):
                stop = piece.stop_samples
                yield Window(number, piece.start_frame, piece.content[0])
        except UnreadableAudio as error:
            yield Broken(number, str(error).removeprefix(f"{source.path}: "))
        else:
            yield End(number, stop * self.model.sample_seconds)

    def _pools(self, items: Iterator[Window | End | Broken]) -> Iterator[list[Window | End | Broken]]:
        """Items of a few batches' worth of windows."""
        # Results of all layers are large: no more of them at once than a batch has.
        batches = 1 if self.model.layer == "all" else _BATCHES_SORTED
        waiting: list[Window | End | Broken] = []
        frames = 0
        for item in items:
            waiting.append(item)
            if isinstance(item, Window):
                frames += max(_BATCH_FRAMES, self._worth(item))
                if frames >= batches * self.batch_size * _BATCH_FRAMES:
                    yield waiting
                    waiting, frames = [], 0
        if waiting:
            yield waiting

    def _worth(self, window: Window) -> int:
        return self.model.worth_frames(window.content)

    def _encode(self, waiting: list[Window | End | Broken]) -> Iterator[EncodedWindow | End | Broken]:
        windows = {place: item for place, item in enumerate(waiting) if isinstance(item, Window)}
        found: dict[int, EncodedWindow] = {}
        for places in self._batches(windows):
            contents = [windows[place].content for place in places]
            lengths = torch.tensor([len(content) for content in contents], device="cpu")
            padded = torch.nn.utils.rnn.pad_sequence(contents, batch_first=True)
            encodings = self.model.encode(padded, lengths, self.levels, self.tags)
            for place, result in zip(places, _rows(encodings), strict=True):
                found[place] = EncodedWindow(windows[place].source, windows[place].start_frame, *result)
        for place, item in enumerate(waiting):
            yield found.pop(place) if isinstance(item, Window) else item

    def _batches(self, windows: dict[int, Window]) -> Iterator[list[int]]:
        """Places of windows of about one length, longest first: what does not fit into memory fails at once."""
        batch: list[int] = []
        for place in sorted(windows, key=lambda place: -self._worth(windows[place])):
            longest = max(_BATCH_FRAMES, self._worth(windows[batch[0]])) if batch else 0
            if batch and ((len(batch) + 1) * longest > self.batch_size * _BATCH_FRAMES or len(batch) == self.batch_size):
                yield batch
                batch = []
            batch.append(place)
        if batch:
            yield batch


def _rows(encodings: Encodings) -> Iterator[tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None, int]]:
    """Row by row, on the CPU, without the padding; each its own memory, so that keeping one does not keep all."""
    tags, clip, frames, patches = (None if part is None else part.cpu() for part in encodings[:4])
    for row, length in enumerate(encodings.num_frames.tolist()):
        yield (
            None if tags is None else tags[row].clone(),
            None if clip is None else clip[row].clone(),
            None if frames is None else frames[row, :length].clone(),
            None if patches is None else patches[row, :length].clone(),
            length,
        )
