from __future__ import annotations

from typing import Literal

import pytest
import torch

from sslam_lightning.mixing import FullMixing, Mixer, PartialMixing
from sslam_lightning.rng import clip_keys

MANY = clip_keys(torch.arange(6400), seed=0, epoch=0)


def regions(shared: torch.Tensor, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the two unmixed regions start; that they hold together is checked on the way."""
    columns = torch.arange(shared.shape[1])
    first = (~shared).int().argmax(dim=1)
    second = shared.shape[1] - (~shared).int().flip(1).argmax(dim=1) - width
    inside = [(columns >= start.unsqueeze(1)) & (columns < start.unsqueeze(1) + width) for start in (first, second)]
    assert torch.equal(~shared, inside[0] | inside[1])
    assert (second >= first + width).all()
    return first, second


def test_regions_of_ten_seconds_are_the_published_ones() -> None:
    first, second = regions(PartialMixing().shared(MANY, 64), width=15)  # 240 frames
    assert first.unique().tolist() == list(range(32))  # frames 0, 16, ..., 496
    assert (second.amin(), second.amax()) == (15, 48)  # frame 768 is the last below 783
    counts = torch.bincount(first, minlength=32).float()
    assert (counts - 200).square().sum() / 200 < 31 + 5 * 62**0.5
    gap, room = second - first - 15, 48 - first - 15  # uniform over 0 ... room, whatever the first one is
    for start in (0, 16, 31):
        here = gap[first == start]
        most = int(room[first == start][0])
        assert here.unique().tolist() == list(range(most + 1))
        error = (((most + 1) ** 2 - 1) / 12 / len(here)) ** 0.5
        assert here.float().mean().item() == pytest.approx(most / 2, abs=5 * error)


@pytest.mark.parametrize("num_time", [3, 4, 5, 6, 7, 8, 9, 13, 31, 32, 63, 65, 100, 127, 257])
def test_regions_of_other_lengths_never_overlap(num_time: int) -> None:
    mixing, width = PartialMixing(), max(1, num_time * 15 // 64)
    shared = mixing.shared(MANY[:1000], num_time)
    assert (shared.sum(dim=1) == num_time - 2 * width).all()
    assert mixing.num_shared(num_time) == num_time - 2 * width
    first, second = regions(shared, width)
    assert first.amax() < max(1, num_time // 2)
    assert (second + width).amax() <= num_time


def test_per_clip_regions_depend_on_the_clips_key_alone() -> None:
    mixing, keys = PartialMixing(), MANY[:8]
    shared = mixing.shared(keys, 64)
    assert torch.equal(mixing.shared(keys.flip(0), 64), shared.flip(0))
    assert torch.equal(mixing.shared(keys[3:4], 64), shared[3:4])
    assert shared.unique(dim=0).shape[0] > 4


def test_per_batch_regions_are_those_of_the_first_clip() -> None:
    mixing, keys = PartialMixing(regions="per_batch"), MANY[:8]
    shared = mixing.shared(keys, 64)
    assert torch.equal(shared, PartialMixing().shared(keys[:1], 64).expand(8, -1))
    assert not torch.equal(mixing.shared(MANY[8:16], 64), shared)


@pytest.mark.parametrize("mixing", [PartialMixing(), FullMixing()])
def test_maximum_where_shared_and_the_clip_itself_elsewhere(mixing: Mixer) -> None:
    log_mels = torch.randn(5, 52, 3)
    keys = MANY[:5]
    clips, partner, columns, _ = mixing(log_mels, keys, patch_frames=4)
    assert partner is not None
    assert columns is not None
    assert torch.equal(clips[:5], log_mels)
    assert partner.tolist() == [4, 0, 1, 2, 3]
    shared = mixing.shared(keys, 13)
    assert columns.shape == (5, mixing.num_shared(13))
    changed = 0
    for clip in range(5):
        assert columns[clip].tolist() == shared[clip].nonzero().flatten().tolist()
        for frame in range(52):
            own, foreign = log_mels[clip, frame], log_mels[clip - 1, frame]
            expected = torch.maximum(own, foreign) if shared[clip, frame // 4] else own
            assert torch.equal(clips[5 + clip, frame], expected)
            changed += int(not torch.equal(expected, own))
    assert changed > 52


@pytest.mark.parametrize(
    ("partner", "batch", "expected"),
    [
        ("previous", 4, [3, 0, 1, 2]),
        ("previous", 3, [2, 0, 1]),
        ("previous", 2, [1, 0]),
        ("neighbor", 2, [1, 0]),
        ("neighbor", 6, [1, 0, 3, 2, 5, 4]),
        ("neighbor", 5, [1, 0, 3, 2, 3]),  # the odd one takes the clip before
        ("neighbor", 3, [1, 0, 1]),
    ],
)
def test_partners(partner: Literal["previous", "neighbor"], batch: int, expected: list[int]) -> None:
    mixture = FullMixing(partner)(torch.randn(batch, 32, 2), MANY[:batch])
    assert mixture.partner is not None
    assert mixture.partner.tolist() == expected


def test_neighbors_stay_together_when_a_batch_is_cut_in_halves() -> None:
    mixing, log_mels = PartialMixing("neighbor"), torch.randn(4, 64 * 16, 2)
    whole = mixing(log_mels, MANY[:4]).clips.view(2, 4, 1024, 2)
    halves = [mixing(log_mels[part], MANY[part]).clips.view(2, 2, 1024, 2) for part in (slice(0, 2), slice(2, 4))]
    assert torch.equal(torch.cat(halves, dim=1), whole)


def test_full_mixing_shares_every_column() -> None:
    mixture = FullMixing()(torch.randn(2, 80, 2), MANY[:2])
    assert mixture.shared_columns is not None
    assert mixture.shared_columns.tolist() == [[0, 1, 2, 3, 4]] * 2


BEHIND = torch.arange(48) >= torch.tensor([48, 20, 33]).unsqueeze(1)  # frames of three clips


@pytest.mark.parametrize("mixing", [PartialMixing(padding="gives_way"), FullMixing(padding="gives_way")], ids=str)
def test_padding_that_gives_way_covers_no_sound(mixing: Mixer) -> None:
    """Frame by frame: louder than all sound as it is, padding stands only where neither clip sounds."""
    log_mels = torch.randn(3, 48, 2).masked_fill(BEHIND.unsqueeze(-1), 9.0)
    mixture = mixing(log_mels, MANY[:3], 4, BEHIND)
    assert torch.equal(mixture.clips[:3], log_mels)
    shared = mixing.shared(MANY[:3], 12).repeat_interleave(4, dim=1)
    met = set()
    for clip in range(3):
        for frame in range(48):
            own, foreign = log_mels[clip, frame], log_mels[clip - 1, frame]
            ended = (bool(BEHIND[clip, frame]), bool(BEHIND[clip - 1, frame]))
            expected = {(True, False): foreign, (False, True): own}.get(ended, torch.maximum(own, foreign))
            assert torch.equal(mixture.clips[3 + clip, frame], expected if shared[clip, frame] else own)
            met |= {ended} if shared[clip, frame] else set()
    assert len(met) == 4


def test_padding_covers_sound_as_published_and_is_nothing_to_clips_that_have_none() -> None:
    log_mels = torch.randn(3, 48, 2)
    published = FullMixing()(log_mels, MANY[:3], 4)
    assert torch.equal(FullMixing()(log_mels, MANY[:3], 4, BEHIND).clips, published.clips)
    assert torch.equal(FullMixing(padding="gives_way")(log_mels, MANY[:3], 4).clips, published.clips)
    nowhere = torch.zeros_like(BEHIND)
    assert torch.equal(FullMixing(padding="gives_way")(log_mels, MANY[:3], 4, nowhere).clips, published.clips)


@pytest.mark.parametrize("mixing", [PartialMixing(), PartialMixing("neighbor"), FullMixing()], ids=str)
def test_one_clip_has_no_partner(mixing: Mixer) -> None:
    with pytest.raises(ValueError, match=r"at least 2 clips on each device, got a batch of 1: raise data\.batch_size"):
        mixing(torch.zeros(1, 1024, 8), MANY[:1])


@pytest.mark.parametrize("num_time", [1, 2])
def test_a_clip_too_short_for_two_regions(num_time: int) -> None:
    assert (PartialMixing().fits(num_time), FullMixing().fits(num_time), PartialMixing().fits(3)) == (False, True, True)
    with pytest.raises(ValueError, match=f"at least 3 columns of patches, got {num_time}"):
        PartialMixing()(torch.zeros(2, 16 * num_time, 8), MANY[:2])


def test_unknown_regions() -> None:
    mixing = PartialMixing()
    object.__setattr__(mixing, "regions", "per_day")  # the constructor's own type is checked before this is reached
    with pytest.raises(ValueError, match="regions must be per_clip or per_batch, got 'per_day'"):
        mixing.__post_init__()
