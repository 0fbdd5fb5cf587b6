from __future__ import annotations

from itertools import chain

import pytest
import torch
from torch.utils.data import DistributedSampler

from sslam_lightning.data.sampler import EpochSampler


def indices(sampler: EpochSampler) -> list[int]:
    return [index for _, index in sampler]


def global_batches(num_clips: int, world: int, total_batch: int, epoch: int) -> list[list[int]]:
    """The clips of each step over all ranks."""
    ranks = []
    for rank in range(world):
        sampler = EpochSampler(num_clips, total_batch // world, seed=5, world=world, rank=rank)
        sampler.set_epoch(epoch)
        mine = indices(sampler)
        assert len(mine) == len(sampler)
        ranks.append([mine[i : i + total_batch // world] for i in range(0, len(mine), total_batch // world)])
    return [list(chain.from_iterable(parts)) for parts in zip(*ranks, strict=True)]


@pytest.mark.parametrize("epoch", [0, 3])
def test_ranks_share_the_same_global_batches(epoch: int) -> None:
    alone = global_batches(100, 1, 12, epoch)
    assert len(alone) == 8  # 4 clips are left out
    assert len(set(chain.from_iterable(alone))) == 96
    assert global_batches(100, 2, 12, epoch) == alone
    assert global_batches(100, 3, 12, epoch) == alone


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
    samplers = [EpochSampler(num_clips, 4, shuffle=False, drop_last=False, world=world, rank=r) for r in range(world)]
    parts = [indices(sampler) for sampler in samplers]
    assert sorted(chain.from_iterable(parts)) == list(range(num_clips))
    assert [len(part) for part in parts] == [len(sampler) for sampler in samplers]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


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
    ("settings", "message"),
    [
        ({"num_clips": 0}, "got 0 clips"),
        ({"batch_size": 0}, "batch size 0"),
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
def test_settings_that_do_not_fit(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EpochSampler(**{"num_clips": 10, "batch_size": 2, **settings})
