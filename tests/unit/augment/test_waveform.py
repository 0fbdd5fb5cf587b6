from __future__ import annotations

import torch

from sslam_lightning.augment import crop_to_shortest, roll_and_gain
from sslam_lightning.augment.waveform import gains
from sslam_lightning.rng import clip_keys
from sslam_lightning.types import Batch


def keys(count: int, seed: int = 0) -> torch.Tensor:
    return clip_keys(torch.arange(count), seed, 0)


def test_every_clip_is_rolled_within_itself_and_scaled() -> None:
    num_samples = torch.tensor([10, 7, 1, 0, 12])
    waveforms = torch.arange(1.0, 13.0).repeat(5, 1)
    waveforms[torch.arange(12) >= num_samples[:, None]] = 0.0
    rolled = roll_and_gain(waveforms, num_samples, keys(5)) / gains(keys(5))[:, None]
    for row, length in enumerate(num_samples.tolist()):
        own = rolled[row, :length].round().int().tolist()
        assert sorted(own) == list(range(1, length + 1))
        shift = own.index(1) if own else 0
        assert own == torch.arange(1, length + 1).roll(shift).tolist()
        assert rolled[row, length:].eq(0.0).all()


def test_shift_is_uniform_over_the_clip() -> None:
    clips, length = 6000, 6
    waveforms = torch.zeros(clips, 8)
    waveforms[:, 0] = 1.0
    landed = roll_and_gain(waveforms, torch.full((clips,), length), keys(clips)).argmax(dim=1)
    counts = landed.bincount(minlength=8)
    assert counts[length:].eq(0).all()
    assert (counts[:length] - clips / length).abs().max() < 5 * (clips / length) ** 0.5


def test_gain_is_beta_10_10_plus_one_half() -> None:
    """Against the distribution function, which for whole parameters is a binomial tail."""
    drawn = gains(keys(20000)).double()
    assert (drawn - 1.0).mean().abs() < 5 * (1 / 84) ** 0.5 / 20000**0.5  # Var Beta(10, 10) = 1 / (4 * 21)
    for x in (0.3, 0.4, 0.5, 0.6, 0.75):
        binomial = torch.distributions.Binomial(19, torch.tensor(x, dtype=torch.float64))
        expected = binomial.log_prob(torch.arange(10, 20, dtype=torch.float64)).exp().sum()
        assert (drawn - 0.5 < x).double().mean() - expected < 5 * (0.25 / 20000) ** 0.5
        assert expected - (drawn - 0.5 < x).double().mean() < 5 * (0.25 / 20000) ** 0.5


def test_shift_and_gain_are_independent() -> None:
    waveforms = torch.zeros(5000, 1000)
    waveforms[:, 0] = 1.0
    rolled = roll_and_gain(waveforms, torch.full((5000,), 1000), keys(5000))
    pairs = torch.stack([rolled.argmax(dim=1).float(), rolled.amax(dim=1)])
    assert pairs.corrcoef()[0, 1].abs() < 5 / 5000**0.5


def test_a_clip_is_a_function_of_its_own_key() -> None:
    waveforms = torch.randn(4, 300, generator=torch.Generator().manual_seed(0))
    num_samples = torch.tensor([300, 200, 300, 100])
    together = roll_and_gain(waveforms, num_samples, keys(4))
    alone = roll_and_gain(waveforms[1:2, :200], num_samples[1:2], keys(4)[1:2])
    torch.testing.assert_close(together[1:2, :200], alone, atol=0, rtol=0)
    assert not torch.equal(together, roll_and_gain(waveforms, num_samples, keys(4, seed=1)))


def test_clips_are_cut_to_the_shortest_anywhere_within_themselves() -> None:
    """Every place comes as often, the last one too; a clip's own samples follow each other, and padding never comes."""
    clips = 4000
    num_samples = torch.full((clips,), 9).index_fill(0, torch.tensor([0]), 4)
    waveforms = torch.arange(12.0).repeat(clips, 1)
    waveforms[torch.arange(12) >= num_samples[:, None]] = torch.nan
    batch = Batch(waveforms, num_samples.tolist(), torch.zeros(clips, 0), torch.arange(clips), ("",) * clips, ())
    cut = crop_to_shortest(batch, keys(clips))
    assert cut.waveforms.shape == (clips, 4)
    assert cut.lengths == [4] * clips
    assert cut.waveforms.diff(dim=1).eq(1.0).all()
    assert cut.waveforms[0].tolist() == [0, 1, 2, 3]
    counts = cut.waveforms[1:, 0].long().bincount()
    assert len(counts) == 6  # 9 - 4 + 1 places
    assert (counts - clips / 6).abs().max() < 5 * (clips / 6) ** 0.5
    assert cut.waveforms.equal(crop_to_shortest(batch, keys(clips)).waveforms)
    assert not cut.waveforms.equal(crop_to_shortest(batch, keys(clips, seed=1)).waveforms)
