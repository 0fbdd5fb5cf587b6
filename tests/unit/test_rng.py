from __future__ import annotations

import pytest
import torch

from sslam_lightning import rng
from sslam_lightning.rng import clip_keys, fold_in, integers, uniform

_64_BITS = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15


def scramble(x: int) -> int:
    """SplitMix64's finalizer in Python's unlimited integers."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _64_BITS
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _64_BITS
    return x ^ (x >> 31)


def signed(x: int) -> int:
    return x - (1 << 64) if x >> 63 else x


def test_the_hash_is_splitmix64() -> None:
    # The first outputs of the reference implementation for the seed 1234567.
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    states = torch.tensor([signed((1234567 + _GAMMA * i) & _64_BITS) for i in range(1, 5)])
    assert rng._scramble(states).tolist() == [signed(x) for x in published]


@pytest.mark.parametrize("key", [0, 1, -1, 2**62, -(2**63), 123456789012345678])
@pytest.mark.parametrize("data", [0, 1, -1, 2**40])
def test_fold_in_wraps_around_as_64_bit_integers_do(key: int, data: int) -> None:
    expected = signed(scramble((key * _GAMMA + scramble((data + _GAMMA) & _64_BITS)) & _64_BITS))
    assert fold_in(torch.tensor([key]), data).tolist() == [expected]
    assert fold_in(torch.tensor([key]), torch.tensor([data])).tolist() == [expected]


def test_fold_in_broadcasts() -> None:
    keys, data = torch.arange(3), torch.arange(4)
    table = fold_in(keys.unsqueeze(1), data)
    assert table.shape == (3, 4)
    assert table[2, 1] == fold_in(keys[2:], 1)[0]
    assert table.unique().numel() == 12


def test_clip_keys_depend_on_seed_epoch_and_place_alone() -> None:
    index = torch.tensor([5, 17, 3])
    keys = clip_keys(index, seed=7, epoch=2)
    assert clip_keys(index.flip(0), seed=7, epoch=2).tolist() == keys.flip(0).tolist()
    assert clip_keys(index[1:2], seed=7, epoch=2).tolist() == keys[1:2].tolist()
    many = torch.arange(500)
    tables = [clip_keys(many, seed, epoch) for seed in range(3) for epoch in range(-1, 3)]
    assert torch.cat(tables).unique().numel() == 12 * 500  # seed 1, epoch 2 is not seed 2, epoch 1


def test_uniform_numbers_are_uniform(keys: torch.Tensor) -> None:
    x = uniform(keys, 1600)
    assert x.shape == (64, 1600)
    assert x.dtype == torch.float32
    assert x.min() >= 0
    assert x.max() < 1
    n = x.numel()
    assert x.mean().item() == pytest.approx(1 / 2, abs=5 * (1 / 12 / n) ** 0.5)
    assert x.var().item() == pytest.approx(1 / 12, abs=5 * (1 / 180 / n) ** 0.5)
    bins = torch.histc(x, 64, 0, 1)
    chi_square = (bins - n / 64).square().sum() / (n / 64)
    assert abs(chi_square.item() - 63) < 5 * (2 * 63) ** 0.5


def test_neighboring_keys_and_counters_are_not_correlated() -> None:
    x = uniform(clip_keys(torch.arange(2000), 0, 0), 20) - 0.5
    bound = 5 / 12 / (2000 * 20) ** 0.5
    assert (x[1:] * x[:-1]).mean().abs() < bound
    assert (x[:, 1:] * x[:, :-1]).mean().abs() < bound


def test_asking_for_more_numbers_does_not_change_the_first(keys: torch.Tensor) -> None:
    torch.testing.assert_close(uniform(keys, 9)[:, :5], uniform(keys, 5), atol=0, rtol=0)
    torch.testing.assert_close(uniform(keys[3:4], 9), uniform(keys, 9)[3:4], atol=0, rtol=0)


def test_integers_cover_their_range_evenly(keys: torch.Tensor) -> None:
    x = integers(keys, 1000, 7)
    counts = torch.bincount(x.flatten(), minlength=7).float()
    assert counts.numel() == 7
    expected = x.numel() / 7
    assert (counts - expected).square().sum() / expected < 6 + 5 * 12**0.5


def test_integers_never_reach_their_bound(monkeypatch: pytest.MonkeyPatch, keys: torch.Tensor) -> None:
    monkeypatch.setattr(rng, "uniform", lambda keys, count: torch.full((1, count), 1 - 2.0**-24))
    for high in [*range(1, 2000), 2**16 - 1, 2**16 + 1, 2**20 + 1]:
        assert integers(keys[:1], 1, high).item() == high - 1
