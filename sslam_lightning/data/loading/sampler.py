"""The order of the clips on every rank: a pure function of (seed, epoch).

One global order of all clips is cut into global batches, of which each rank takes its contiguous part. So the global
batches are the same on one device with batch 48 and on four with batch 12, and so are the clips of a step on four devices
and on one that accumulates four batches of 12. A resumed run needs only the epoch and the number of clips that it has had,
on however many ranks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, distributed
from torch.utils.data import DistributedSampler

from sslam_lightning.rng import fold_in

LastBatch = Literal["pad", "drop", "keep"]

_ORDER, _CHOICE = (int.from_bytes(name, "big") for name in (b"order", b"choice"))  # beyond any index of a clip


class EpochSampler(DistributedSampler[tuple[int, int]]):
    """Yields ``(epoch, index)`` for one rank; a `DistributedSampler`, so that Lightning does not replace it.

    Args:
        num_clips: size of the data set.
        batch_size: clips per device and step; the same as the loader's.
        seed: of the order.
        shuffle: a new order every epoch; otherwise the order of the data set.
        last_batch: the clips that do not fill the last step. "pad" fills it with the first clips of the epoch's order,
            which so come twice; "drop" leaves them out. All ranks get the same number of full batches; only an epoch of
            less than one global batch is one ragged batch. "keep" is for evaluation: every clip exactly once over all
            ranks, in the batches that one device would have, so that some ranks may have one batch less than others.
        accumulated: global batches of one optimizer step. An epoch of less than one step has fewer batches.
        weights: relative chance to be drawn; 0: never. Needs ``samples_per_epoch``.
        samples_per_epoch: draw this many clips for every epoch, without replacement; None: all.
        world, rank: number of ranks, and this one; None: those of torch.distributed when they are needed.

    Raises:
        ValueError: settings that do not fit each other or the number of clips.
    """

    def __init__(
        self,
        num_clips: int,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        last_batch: LastBatch = "pad",
        accumulated: int = 1,
        weights: Float[Tensor, "clips"] | None = None,
        samples_per_epoch: int | None = None,
        world: int | None = None,
        rank: int | None = None,
    ) -> None:
        # Not the parent's constructor: it asks for world and rank now, before the process group exists.
        if num_clips < 1 or batch_size < 1:
            raise ValueError(f"a sampler needs clips and a batch size, got {num_clips} clips, batch size {batch_size}")
        if (world is None) != (rank is None):
            raise ValueError(f"give both world and rank or neither, got world {world} and rank {rank}")
        if world is not None and rank is not None and not 0 <= rank < world:
            raise ValueError(f"rank must lie in 0..{world - 1}, got {rank}")
        if last_batch not in get_args(LastBatch):
            raise ValueError(f"last_batch must be one of {', '.join(get_args(LastBatch))}, got {last_batch!r}")
        _check_choice(num_clips, shuffle, weights, samples_per_epoch)
        self.num_clips, self.batch_size, self.accumulated = num_clips, batch_size, accumulated
        self.seed, self.shuffle, self.last_batch = seed, shuffle, last_batch
        self.weights, self.samples_per_epoch = weights, samples_per_epoch
        self.epoch = 0  # set by Lightning through set_epoch
        self.start = 0  # clips of the epoch's order, over all ranks, that an earlier run has had
        self._given_place = None if world is None or rank is None else (world, rank)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch = self.epoch
        yield from ((epoch, int(index)) for index in self._mine(self.order(epoch)).numpy())

    def __len__(self) -> int:
        # of a whole epoch, wherever this one starts
        world, rank = self._place()
        whole, ragged = self._batches(0, world)
        return whole * self.batch_size + len(range(ragged)[self._part(ragged, world, rank)])

    @property
    def num_samples(self) -> int:  # type: ignore[override]
        """Clips of an epoch over all ranks, without padding."""
        return self.samples_per_epoch or self.num_clips

    @property
    def global_batch_size(self) -> int:
        """Clips per step over all ranks."""
        return self.batch_size * self._place()[0]

    def num_batches(self, start: int = 0) -> int:
        """Batches left of an epoch after ``start`` clips of its order, padding included."""
        whole, ragged = self._batches(start, self._place()[0])
        return whole + (ragged > 0)

    def order(self, epoch: int) -> Int[Tensor, "samples"]:
        """Indices of the clips of an epoch, over all ranks."""
        clips = torch.arange(self.num_clips, device="cpu")
        if not self.shuffle:
            return clips
        epoch_key = fold_in(fold_in(torch.tensor(0, device="cpu"), self.seed), epoch)
        shuffled = fold_in(fold_in(epoch_key, _ORDER), clips).argsort(stable=True)
        if self.weights is None:
            return shuffled[: self.samples_per_epoch]
        chosen = _without_replacement(self.weights, self.samples_per_epoch or 0, fold_in(epoch_key, _CHOICE))
        # In shuffled order: the draw itself would put the heavy clips first, and so into the same batches.
        return shuffled[torch.zeros(self.num_clips, dtype=torch.bool, device="cpu").index_fill_(0, chosen, True)[shuffled]]

    def _batches(self, start: int, world: int) -> tuple[int, int]:
        """Full global batches after ``start`` clips of the order, and clips of a ragged one after those."""
        batch, left = self.batch_size * world, max(0, self.num_samples - start)
        whole, rest = divmod(left, batch)
        if self.last_batch == "keep":
            return whole, rest
        if self.num_samples < batch:
            if 0 < rest < world:
                raise ValueError(f"{rest} clips are too few for {world} devices: each needs at least one")
            return whole, rest
        update = batch * self.accumulated
        if self.num_samples < update or start % batch:  # nothing to fill, or begun with batches of another size
            return whole + (rest > 0 and self.last_batch == "pad"), 0
        begun = start % update
        updates, rest = divmod(max(0, self.num_samples - start + begun), update)
        return max(0, (updates + (rest > 0 and self.last_batch == "pad")) * self.accumulated - begun // batch), 0

    def _mine(self, order: Int[Tensor, "samples"]) -> Int[Tensor, "mine"]:
        world, rank = self._place()
        whole, ragged = self._batches(self.start, world)
        in_whole = whole * self.batch_size * world
        places = self.start + torch.arange(in_whole + ragged, device="cpu")
        filled = order[places % len(order)]  # around, where clips are missing
        mine = filled[:in_whole].view(whole, world, self.batch_size)[:, rank].flatten()
        return torch.cat([mine, filled[in_whole:][self._part(ragged, world, rank)]])

    def _part(self, ragged: int, world: int, rank: int) -> slice:
        """This rank's clips of a ragged batch."""
        has_whole_batches, all_get_some = ragged < self.num_samples, ragged > (world - 1) * self.batch_size
        if self.last_batch == "keep" and (has_whole_batches or all_get_some):
            return slice(rank * self.batch_size, (rank + 1) * self.batch_size)
        return slice(ragged * rank // world, ragged * (rank + 1) // world)  # none may be left without a batch of its own

    def _place(self) -> tuple[int, int]:
        if self._given_place is not None:
            return self._given_place
        if distributed.is_available() and distributed.is_initialized():
            return distributed.get_world_size(), distributed.get_rank()
        return 1, 0


def _without_replacement(weights: Float[Tensor, "clips"], count: int, key: Int[Tensor, ""]) -> Int[Tensor, "count"]:
    """A weighted sample without replacement: the smallest of exponential times with the weights as rates.

    Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006.
    """
    hashes = fold_in(key, torch.arange(len(weights), device="cpu"))
    uniform = (hashes.double() * 2.0**-64 + 0.5).clamp(min=2.0**-64)  # 24 bits would tie among millions
    return (-uniform.log() / weights.double()).topk(count, largest=False, sorted=False).indices


def _check_choice(
    num_clips: int, shuffle: bool, weights: Float[Tensor, "clips"] | None, samples_per_epoch: int | None
) -> None:
    if (weights is not None or samples_per_epoch is not None) and not shuffle:
        raise ValueError("weights and samples_per_epoch choose clips at random, so they need shuffle")
    available = num_clips
    if weights is not None:
        if len(weights) != num_clips:
            raise ValueError(f"every clip needs a weight, got {len(weights)} weights for {num_clips} clips")
        if not bool(torch.isfinite(weights).all()) or bool((weights < 0).any()):
            raise ValueError("weights must be finite and not negative")
        if samples_per_epoch is None:
            raise ValueError(
                "weighted sampling without replacement needs samples_per_epoch: with all clips it does nothing"
            )
        available = int((weights > 0).sum())
    if samples_per_epoch is not None and not 1 <= samples_per_epoch <= available:
        raise ValueError(
            f"samples_per_epoch must lie in 1..{available} (clips that can be chosen), got {samples_per_epoch}"
        )
