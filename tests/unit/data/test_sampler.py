from __future__ import annotations

from itertools import chain, zip_longest
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DistributedSampler

from sslam_lightning.data.loading.sampler import EpochSampler, LastBatch


def indices(sampler: EpochSampler) -> list[int]:
    return [index for _, index in sampler]


def global_batches(
    num_clips: int, world: int, batch_size: int, epoch: int = 0, start: int = 0, **settings: Any
) -> list[list[int]]:
    """The clips of each step over all ranks."""
    ranks = []
    for rank in range(world):
        sampler = EpochSampler(num_clips, batch_size, **{"seed": 5, **settings}, world=world, rank=rank)
        sampler.set_epoch(epoch)
        sampler.start = start
        mine = indices(sampler)
        if start == 0:
            assert len(mine) == len(sampler)
        ranks.append([mine[i : i + batch_size] for i in range(0, len(mine), batch_size)])
        assert len(ranks[-1]) in (sampler.num_batches(start), sampler.num_batches(start) - (sampler.last_batch == "keep"))
    return [list(chain.from_iterable(parts)) for parts in zip_longest(*ranks, fillvalue=())]


@pytest.mark.parametrize("epoch", [0, 3])
@pytest.mark.parametrize(("last_batch", "count", "padded"), [("drop", 8, []), ("pad", 9, list(range(8)))])
def test_ranks_share_the_same_global_batches(epoch: int, last_batch: LastBatch, count: int, padded: list[int]) -> None:
    alone = global_batches(100, 1, 12, epoch, last_batch=last_batch)
    order = EpochSampler(100, 12, seed=5).order(epoch).tolist()
    assert list(chain.from_iterable(alone)) == [*order, *(order[place] for place in padded)][: 12 * count]
    assert global_batches(100, 2, 6, epoch, last_batch=last_batch) == alone
    assert global_batches(100, 3, 4, epoch, last_batch=last_batch) == alone


def test_order_is_a_function_of_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return EpochSampler(50, 5, seed=seed).order(epoch).tolist()

    assert order(1, 2) == order(1, 2)
    assert sorted(order(1, 2)) == list(range(50))
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_every_place_is_equally_likely() -> None:
    sampler = EpochSampler(5, 1)
    where_is_0 = torch.stack([sampler.order(epoch) for epoch in range(2000)]).eq(0).double().mean(dim=0)
    # standard error 0.009
    torch.testing.assert_close(where_is_0, torch.full((5,), 0.2, dtype=torch.float64), rtol=0, atol=0.04)


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("num_clips", [1, 7, 24, 31])
def test_evaluation_sees_every_clip_once(num_clips: int, world: int) -> None:
    samplers = [EpochSampler(num_clips, 4, shuffle=False, last_batch="keep", world=world, rank=r) for r in range(world)]
    parts = [indices(sampler) for sampler in samplers]
    assert sorted(chain.from_iterable(parts)) == list(range(num_clips))
    assert [len(part) for part in parts] == [len(sampler) for sampler in samplers]
    batches = [[part[i : i + 4] for i in range(0, len(part), 4)] for part in parts]
    alone = list(range(num_clips))
    in_order = [batch for turn in zip_longest(*batches) for batch in turn if batch]
    if num_clips > 4 * (world - 1):
        # Batch by batch what one process has, so that nothing depends on the number of processes.
        assert in_order == [alone[i : i + 4] for i in range(0, num_clips, 4)]
    elif num_clips >= world:  # Lightning takes no rank without a batch, so these are spread
        assert list(chain.from_iterable(in_order)) == alone
        assert all(len(part) == 1 for part in batches)
    assert max(map(len, batches)) - min(map(len, batches)) <= 1


def test_yields_the_epoch() -> None:
    sampler = EpochSampler(4, 2)
    sampler.set_epoch(9)
    assert {epoch for epoch, _ in sampler} == {9}
    assert isinstance(sampler, DistributedSampler)  # what Lightning looks for before it puts in its own


def test_asks_for_its_place_only_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = EpochSampler(12, 2, shuffle=False)  # made before the process group exists, as in Lightning
    assert len(sampler) == 12
    for name, value in (("is_initialized", True), ("get_world_size", 3), ("get_rank", 1)):
        monkeypatch.setattr(torch.distributed, name, lambda value=value: value)
    assert indices(sampler) == [2, 3, 8, 9]
    assert len(sampler) == 4


def test_fewer_clips_than_a_batch_are_one_ragged_batch() -> None:
    parts = [indices(EpochSampler(5, 8, world=2, rank=rank)) for rank in range(2)]
    assert [len(part) for part in parts] == [2, 3]
    assert sorted(chain.from_iterable(parts)) == list(range(5))
    with pytest.raises(ValueError, match="2 clips are too few for 3 devices"):
        len(EpochSampler(2, 8, world=3, rank=0))


def test_weighted_choice_is_without_replacement_and_by_weight() -> None:
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0, 0.0])
    epochs = 1500
    firsts = torch.zeros(5)
    for epoch in range(epochs):
        firsts[EpochSampler(5, 1, seed=1, weights=weights, samples_per_epoch=1).order(epoch)] += 1
    # standard error 0.013
    torch.testing.assert_close(firsts / epochs, weights / 10, rtol=0, atol=0.05)

    pairs = EpochSampler(5, 1, seed=1, weights=weights, samples_per_epoch=2)
    chosen = torch.zeros(5)
    for epoch in range(epochs):
        pair = pairs.order(epoch)
        assert len(set(pair.tolist())) == 2
        chosen[pair] += 1
    share = weights[:4] / 10  # P(i in the first two) = p_i + sum over j of p_j p_i / (1 - p_j)
    expected = share + torch.stack(
        [sum(share[j] * share[i] / (1 - share[j]) for j in range(4) if j != i) for i in range(4)]
    )
    torch.testing.assert_close(chosen[:4] / epochs, expected, rtol=0, atol=0.05)
    assert chosen[4] == 0


def test_weighted_choice_is_shared_by_the_ranks_and_mixed() -> None:
    weights = torch.linspace(1, 100, 1000)
    parts = [
        indices(EpochSampler(1000, 10, weights=weights, samples_per_epoch=200, world=2, rank=rank)) for rank in range(2)
    ]
    assert len(set(chain.from_iterable(parts))) == 200
    order = EpochSampler(1000, 10, weights=weights, samples_per_epoch=200).order(0)
    assert abs(float(weights[order[:100]].mean() - weights[order[100:]].mean())) < 15  # heavy ones do not come first


def test_uniform_subset_of_an_epoch() -> None:
    sampler = EpochSampler(100, 5, samples_per_epoch=20)
    first, second = set(sampler.order(0).tolist()), set(sampler.order(1).tolist())
    assert len(first) == len(second) == len(sampler) == 20
    assert first != second


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_clips": 0}, "got 0 clips"),
        ({"batch_size": 0}, "batch size 0"),
        ({"last_batch": "repeat"}, "last_batch must be one of pad, drop, keep, got 'repeat'"),
        ({"world": 2}, "both world and rank"),
        ({"world": 2, "rank": 2}, r"rank must lie in 0\.\.1, got 2"),
        ({"samples_per_epoch": 11}, r"samples_per_epoch must lie in 1\.\.10"),
        ({"samples_per_epoch": 5, "shuffle": False}, "need shuffle"),
        ({"weights": torch.ones(10)}, "needs samples_per_epoch"),
        ({"weights": torch.ones(9), "samples_per_epoch": 5}, "got 9 weights for 10 clips"),
        ({"weights": -torch.ones(10), "samples_per_epoch": 5}, "finite and not negative"),
        ({"weights": torch.eye(10)[0], "samples_per_epoch": 5}, r"1\.\.1 \(clips that can be chosen\), got 5"),
    ],
)
def test_settings_that_do_not_fit(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EpochSampler(**{"num_clips": 10, "batch_size": 2, **options})


# What holds for any number of clips, ranks and batches ----------------------------------------------------------------

WHOLE = ("pad", "drop")
sizes = {"num_clips": st.integers(1, 120), "world": st.integers(1, 5), "batch_size": st.integers(1, 9)}
moments = {"seed": st.integers(0, 2**31), "epoch": st.integers(0, 1000)}
quick = settings(max_examples=60, deadline=None, derandomize=True)


@quick
@given(**sizes, **moments)
def test_evaluation_and_padded_training_lose_nothing(
    num_clips: int, world: int, batch_size: int, seed: int, epoch: int
) -> None:
    kept = chain.from_iterable(global_batches(num_clips, world, batch_size, epoch, seed=seed, last_batch="keep"))
    assert sorted(kept) == list(range(num_clips))
    if num_clips < world:
        return  # refused, see above
    batches = global_batches(num_clips, world, batch_size, epoch, seed=seed)
    seen = list(chain.from_iterable(batches))
    order = EpochSampler(num_clips, 1, seed=seed).order(epoch).tolist()
    if num_clips < world * batch_size:
        assert sorted(seen) == sorted(order)
        return
    assert {len(batch) for batch in batches} == {world * batch_size}
    assert seen[:num_clips] == order
    assert seen[num_clips:] == order[: len(seen) - num_clips]  # fewer than a batch
    assert len(seen) - num_clips < world * batch_size
    assert all(len(set(batch)) == len(batch) for batch in batches)


@quick
@given(**sizes, **moments)
def test_dropping_leaves_out_less_than_a_batch(num_clips: int, world: int, batch_size: int, seed: int, epoch: int) -> None:
    if num_clips < world * batch_size:
        return
    seen = list(chain.from_iterable(global_batches(num_clips, world, batch_size, epoch, seed=seed, last_batch="drop")))
    assert len(seen) == len(set(seen)) == num_clips - num_clips % (world * batch_size)


@pytest.mark.parametrize(("last_batch", "updates"), [("drop", 4), ("pad", 5)])
def test_an_update_has_the_same_clips_on_many_devices_and_in_many_batches_of_one(
    last_batch: LastBatch, updates: int
) -> None:
    alone = global_batches(100, 1, 6, accumulated=4, last_batch=last_batch)
    assert len(alone) == 4 * updates
    for world, accumulated in ((2, 2), (4, 1)):
        together = global_batches(100, world, 6, accumulated=accumulated, last_batch=last_batch)
        # Batch by batch of a device, too: draws and mixtures within a batch are the same.
        assert [batch[i : i + 6] for batch in together for i in range(0, 6 * world, 6)] == alone
    assert global_batches(100, 4, 6, last_batch=last_batch) == global_batches(100, 1, 24, last_batch=last_batch)


def test_less_than_an_update_is_not_filled_up() -> None:
    assert [len(batch) for batch in global_batches(15, 1, 4, accumulated=5)] == [4, 4, 4, 4]
    assert [len(batch) for batch in global_batches(15, 1, 4, accumulated=5, last_batch="drop")] == [4, 4, 4]
    assert [len(batch) for batch in global_batches(15, 1, 4, accumulated=3)] == [4] * 6


@quick
@given(**sizes, **moments, last_batch=st.sampled_from(WHOLE), accumulated=st.integers(1, 4), place=st.integers(0, 10**6))
def test_a_resumed_epoch_is_the_rest(
    num_clips: int,
    world: int,
    batch_size: int,
    seed: int,
    epoch: int,
    last_batch: LastBatch,
    accumulated: int,
    place: int,
) -> None:
    if num_clips < world:
        return
    options: dict[str, Any] = {"seed": seed, "last_batch": last_batch, "accumulated": accumulated}
    whole = global_batches(num_clips, world, batch_size, epoch, **options)
    behind = place % (len(whole) + 1)
    start = behind * world * batch_size
    assert global_batches(num_clips, world, batch_size, epoch, start, **options) == whole[behind:]


@quick
@given(**sizes, **moments, other=st.tuples(st.integers(1, 5), st.integers(1, 9)), place=st.integers(0, 10**6))
def test_another_number_of_ranks_goes_on_with_the_clips_that_are_left(
    num_clips: int, world: int, batch_size: int, seed: int, epoch: int, other: tuple[int, int], place: int
) -> None:
    if num_clips < max(world * batch_size, other[0] * other[1]):
        return
    whole = global_batches(num_clips, world, batch_size, epoch, seed=seed)
    behind = place % (len(whole) + 1)
    start = min(behind * world * batch_size, num_clips)
    had = list(chain.from_iterable(whole[:behind]))[:start]
    later = list(chain.from_iterable(global_batches(num_clips, *other, epoch, start, seed=seed)))
    assert sorted([*had, *later[: num_clips - start]]) == list(range(num_clips))
    assert len(later) - (num_clips - start) < other[0] * other[1]  # what fills the last batch


@quick
@given(**moments, num_clips=st.integers(20, 100), share=st.floats(0.05, 0.5), world=st.integers(1, 4))
def test_a_weighted_choice_is_one_for_all_ranks(seed: int, epoch: int, num_clips: int, share: float, world: int) -> None:
    weights = torch.rand(num_clips, generator=torch.Generator().manual_seed(seed)) + 0.01
    count = max(8, int(share * num_clips))
    options: dict[str, Any] = {"seed": seed, "weights": weights, "samples_per_epoch": count}
    alone = list(chain.from_iterable(global_batches(num_clips, 1, 2 * world, epoch, **options)))
    assert list(chain.from_iterable(global_batches(num_clips, world, 2, epoch, **options))) == alone
    assert len(set(alone[:count])) == count  # without replacement


@quick
@given(**sizes, **moments)
def test_order_is_determined_by_seed_and_epoch(num_clips: int, world: int, batch_size: int, seed: int, epoch: int) -> None:
    order = EpochSampler(num_clips, batch_size, seed=seed).order
    assert torch.equal(order(epoch), EpochSampler(num_clips, world, seed=seed).order(epoch))
    if num_clips > 60:
        assert not torch.equal(order(epoch), order(epoch + 1))
        assert not torch.equal(order(epoch), EpochSampler(num_clips, batch_size, seed=seed + 1).order(epoch))
