from __future__ import annotations

import pytest
import torch

from sslam_lightning.augment import SpecAugment, noise_and_roll
from sslam_lightning.rng import clip_keys

CLIPS = 20000


def keys(count: int = CLIPS) -> torch.Tensor:
    return clip_keys(torch.arange(count), 3, 0)


def test_stripes_are_one_run_each_and_zero() -> None:
    augmented = SpecAugment(time_mask_ratio=0.5, freq_mask_ratio=0.5)(torch.ones(500, 20, 12), keys(500))
    for rows in (augmented.amax(dim=2), augmented.amax(dim=1)):  # 0 where a whole frame, a whole band is blank
        edges = rows.diff(dim=1, prepend=torch.ones(500, 1), append=torch.ones(500, 1))
        assert edges.abs().sum(dim=1).le(2.0).all()
    blank_frames, blank_mels = augmented.amax(dim=2).eq(0).sum(dim=1), augmented.amax(dim=1).eq(0).sum(dim=1)
    kept = (20 - blank_frames) * (12 - blank_mels)
    assert torch.equal(augmented.sum(dim=(1, 2)), kept.float())
    assert blank_frames.max() == 9
    assert blank_mels.max() == 5


@pytest.mark.parametrize("settings", [SpecAugment(0.5, 0.0), SpecAugment(0.0, 0.5)])
def test_stripe_is_drawn_as_in_torchaudio(settings: SpecAugment) -> None:
    """Width w = floor(a) with a uniform in [0, 4); start floor(b (8 - a)), b uniform in [0, 1)."""
    blank = settings(torch.ones(CLIPS, 8, 8), keys()).eq(0.0)
    stripe = blank.all(dim=2) if settings.time_mask_ratio else blank.all(dim=1)
    tolerance = 5 * 0.5 / CLIPS**0.5
    shares = stripe.sum(dim=1).bincount(minlength=8) / CLIPS
    torch.testing.assert_close(shares, torch.tensor([0.25] * 4 + [0.0] * 4), atol=tolerance, rtol=0)
    generator = torch.Generator().manual_seed(0)
    a, b = 4 * torch.rand(400000, generator=generator), torch.rand(400000, generator=generator)
    start = (b * (8 - a)).floor()
    place = torch.arange(8)
    expected = ((place >= start[:, None]) & (place < (start + a.floor())[:, None])).float().mean(dim=0)
    torch.testing.assert_close(stripe.float().mean(dim=0), expected, atol=tolerance, rtol=0)


def test_widest_stripe_is_not_rounded_and_zero_share_changes_nothing() -> None:
    """The public code hands 128 * 0.2 = 25.6 to torchaudio as it is, so a stripe may be 25 bands wide."""
    clips = torch.ones(2000, 9, 9)
    assert torch.equal(SpecAugment(0.0, 0.1)(clips, keys(2000)), clips)  # int(0.9) = 0 bands
    assert SpecAugment(0.33, 0.0)(clips, keys(2000)).eq(0).all(dim=2).sum(dim=1).unique().tolist() == [0, 1, 2]


def test_a_clip_is_a_function_of_its_own_key_and_the_input_stays() -> None:
    clips = torch.randn(50, 32, 16, generator=torch.Generator().manual_seed(0))
    before = clips.clone()
    together = SpecAugment()(clips, keys(50))
    assert torch.equal(clips, before)
    assert torch.equal(together[7:8], SpecAugment()(clips[7:8], keys(50)[7:8]))


def test_noise_is_uniform_below_a_level_per_clip() -> None:
    noise = noise_and_roll(torch.zeros(2000, 12, 40), keys(2000))
    levels = noise.amax(dim=(1, 2)) * 481 / 480  # the largest of 480 uniform numbers
    assert noise.min() >= 0.0
    assert levels.mean().item() == pytest.approx(0.05, abs=5 * 0.0289 / 2000**0.5)
    assert levels.std().item() == pytest.approx(0.1 / 12**0.5, rel=0.05)
    assert (noise / noise.amax(dim=(1, 2), keepdim=True)).mean().item() == pytest.approx(0.5, abs=0.003)


def test_roll_is_whole_frames_from_minus_10_to_9() -> None:
    clips = torch.arange(32.0).view(1, 32, 1).expand(CLIPS, 32, 2)
    rolled = noise_and_roll(clips, keys(), loudest=0.0)
    shift = rolled[:, :, 0].argmin(dim=1)
    torch.testing.assert_close(rolled[11], clips[11].roll(int(shift[11]), 0))
    shift = (shift + 16) % 32 - 16
    assert (shift.min(), shift.max()) == (-10, 9)
    counts = (shift + 10).bincount(minlength=20)
    assert (counts - CLIPS / 20).abs().max() < 5 * (CLIPS / 20) ** 0.5


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"time_mask_ratio must lie between 0 and 1, got 1.5"):
        SpecAugment(time_mask_ratio=1.5)
    with pytest.raises(ValueError, match=r"freq_mask_ratio must lie between 0 and 1, got -0.1"):
        SpecAugment(freq_mask_ratio=-0.1)
    with pytest.raises(ValueError, match="max_roll_frames must lie between 1 and the clip's 8 frames, got 10"):
        noise_and_roll(torch.zeros(1, 8, 4), keys(1))
