from __future__ import annotations

import pytest
import torch

from sslam_lightning.augment import Mixup
from sslam_lightning.augment.mixup import symmetric_beta
from sslam_lightning.rng import clip_keys

DRAWS = 5000


def keys(count: int) -> torch.Tensor:
    return clip_keys(torch.arange(count), 5, 0)


def beta_moments(alpha: float) -> tuple[float, float]:
    """Variance and fourth central moment of Beta(alpha, alpha)."""
    variance = 1 / (4 * (2 * alpha + 1))
    return variance, 3 * variance**2 * (2 * alpha + 1) / (2 * alpha + 3)


@pytest.mark.parametrize("alpha", [0.05, 0.4, 0.8, 1.0, 2.0])
def test_symmetric_beta_has_the_right_moments(alpha: float) -> None:
    drawn = symmetric_beta(keys(DRAWS), alpha).double()
    variance, fourth = beta_moments(alpha)
    assert drawn.min() >= 0.0
    assert drawn.max() <= 1.0
    assert abs(drawn.mean() - 0.5) < 5 * (variance / DRAWS) ** 0.5
    assert abs((drawn - 0.5).square().mean() - variance) < 5 * ((fourth - variance**2) / DRAWS) ** 0.5


@pytest.mark.parametrize(
    ("alpha", "distribution"),
    [
        (0.5, lambda x: 2 / torch.pi * x.sqrt().asin()),  # the arcsine law
        (1.0, lambda x: x),
        (2.0, lambda x: 3 * x**2 - 2 * x**3),
    ],
)
def test_symmetric_beta_has_the_right_distribution(alpha: float, distribution) -> None:
    drawn = symmetric_beta(keys(DRAWS), alpha).sort().values.double()
    steps = (torch.arange(DRAWS) + 0.5) / DRAWS
    assert (distribution(drawn) - steps).abs().max() < 1.95 / DRAWS**0.5  # Kolmogorov and Smirnov, p = 0.001


def test_mixes_with_probability_prob() -> None:
    ratios = Mixup(alpha=0.8, prob=0.9).ratio(keys(DRAWS))
    assert abs((ratios < 1.0).double().mean() - 0.9) < 5 * (0.09 / DRAWS) ** 0.5
    assert Mixup(alpha=0.8, prob=0.0).ratio(keys(100)).eq(1.0).all()
    assert Mixup(alpha=0.8, prob=1.0).ratio(keys(100)).lt(1.0).all()


@pytest.mark.parametrize("clips", [1, 2, 5])
def test_partner_is_the_flipped_batch(clips: int) -> None:
    mixup = Mixup(prob=1.0)
    log_mels = torch.arange(float(clips)).view(clips, 1, 1).expand(clips, 4, 3)
    labels = torch.eye(clips)
    mixed = mixup(log_mels, labels, keys(clips))
    share = mixed.ratio[0]
    assert torch.equal(mixed.ratio, mixup.ratio(keys(clips)[0]).expand(clips))
    assert 0.0 < share < 1.0
    for i in range(clips):
        expected = share * i + (1 - share) * (clips - 1 - i)
        torch.testing.assert_close(mixed.log_mels[i], expected.expand(4, 3))
        torch.testing.assert_close(mixed.labels[i], share * labels[i] + (1 - share) * labels[clips - 1 - i])


@pytest.mark.parametrize("clips", [1, 4, 5])
def test_neighbors_swap_and_a_pair_has_its_own_ratio(clips: int) -> None:
    mixup = Mixup(prob=1.0, partner="neighbor")
    log_mels = torch.arange(float(clips)).view(clips, 1, 1).expand(clips, 4, 3)
    mixed = mixup(log_mels, torch.eye(clips), keys(clips))
    for i in range(clips):
        partner = min(i ^ 1, clips - 1) if i ^ 1 < clips else i
        share = mixup.ratio(keys(clips))[min(i, partner)]
        torch.testing.assert_close(mixed.log_mels[i], (share * i + (1 - share) * partner).expand(4, 3))
        torch.testing.assert_close(mixed.labels[i], share * torch.eye(clips)[i] + (1 - share) * torch.eye(clips)[partner])


def test_halves_of_a_batch_blend_as_the_whole_does() -> None:
    log_mels, labels = torch.randn(8, 4, 2, generator=torch.Generator().manual_seed(0)), torch.eye(8)
    mixup = Mixup(prob=0.5, partner="neighbor")
    whole = mixup(log_mels, labels, keys(8))
    halves = [mixup(log_mels[half], labels[half], keys(8)[half]) for half in (slice(4), slice(4, None))]
    assert torch.equal(whole.log_mels, torch.cat([half.log_mels for half in halves]))
    assert torch.equal(whole.labels, torch.cat([half.labels for half in halves]))


def test_alpha_zero_changes_nothing() -> None:
    log_mels = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0))
    labels = torch.eye(3)
    mixed = Mixup(alpha=0.0)(log_mels, labels, keys(3))
    assert torch.equal(mixed.log_mels, log_mels)
    assert torch.equal(mixed.labels, labels)
    assert mixed.ratio.eq(1.0).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": -0.1}, "alpha must lie between 0 and 2, got -0.1"),
        ({"alpha": 2.5}, "alpha must lie between 0 and 2, got 2.5"),
        ({"prob": 1.1}, "prob must lie between 0 and 1, got 1.1"),
    ],
)
def test_wrong_settings(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Mixup(**settings)
