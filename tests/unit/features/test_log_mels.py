from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torchaudio.compliance import kaldi

from sslam_lightning.features import MAE_AST_LOG_MELS, LogMels, kaldi_fbank, mel_decibels, scaled_decibels
from sslam_lightning.features import log_mels as log_mels_module
from sslam_lightning.features.decibels import decibel_tables
from sslam_lightning.features.log_mels import Kind

LENGTHS = [16000, 9001, 2800, 12345]


def padded_clips(lengths: list[int], width: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Clips of noise with an offset, zeros behind their end."""
    num_samples = torch.tensor(lengths)
    waveforms = torch.zeros(len(lengths), width or max(lengths))
    for row, length in enumerate(lengths):
        generator = torch.Generator().manual_seed(length)
        waveforms[row, :length] = torch.randn(length, generator=generator) * 0.1 + 0.3
    return waveforms, num_samples


def test_one_clip_step_by_step() -> None:
    waveforms, num_samples = padded_clips([4000])
    plain = kaldi_fbank(waveforms - waveforms.mean())[0]
    spectrogram = LogMels(num_frames=32, mean=-5.0, std=2.0)(waveforms, num_samples)[0]
    assert plain.shape == (23, 128)
    torch.testing.assert_close(spectrogram[:23], (plain + 5.0) / 4.0, atol=1e-3, rtol=0)
    assert spectrogram[23:].eq(1.25).all()  # padding is 0 before the normalization


def test_mae_asts_log_mels_are_torchaudios_own() -> None:
    """D1: no mean removed, no normalization, nothing padded; frames behind the last whole patch are dropped."""
    waveforms, num_samples = padded_clips([16000])
    expected = kaldi.fbank(waveforms, sample_frequency=16000, use_energy=False, num_mel_bins=128)
    assert len(expected) == 98
    found = MAE_AST_LOG_MELS(waveforms, num_samples)[0]
    assert found.shape == (96, 128)
    torch.testing.assert_close(found, expected[:96], atol=1e-5, rtol=0)
    every = replace(MAE_AST_LOG_MELS, patch_frames=1)(waveforms, num_samples)[0]
    torch.testing.assert_close(every, expected, atol=1e-5, rtol=0)


def test_the_mean_of_a_clip_is_removed_only_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waveforms, num_samples = padded_clips([4000, 3000])
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(
        log_mels_module, "kaldi_fbank", lambda clips, *rest: seen.append(clips) or kaldi_fbank(clips, *rest)
    )
    for remove_mean in (True, False):
        LogMels(num_frames=None, remove_mean=remove_mean)(waveforms, num_samples)
    assert seen[0][1, :3000].mean().abs() < 1e-6
    assert torch.equal(seen[1], waveforms)


def test_cuts_what_is_too_long() -> None:
    waveforms, num_samples = padded_clips([16000])
    short = LogMels(num_frames=32)(waveforms, num_samples)
    assert short.shape == (1, 32, 128)
    torch.testing.assert_close(short, LogMels(num_frames=96)(waveforms, num_samples)[:, :32], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("longest", "frames"), [(2800, 16), (2960, 32), (16000, 112)])
def test_open_length_is_the_longest_clip_in_whole_patches(longest: int, frames: int) -> None:
    waveforms, num_samples = padded_clips([longest, 2800], width=20000)
    assert LogMels(num_frames=None)(waveforms, num_samples).shape == (2, frames, 128)
    eight = math.ceil((1 + (longest - 400) // 160) / 8) * 8
    assert LogMels(num_frames=None, patch_frames=8)(waveforms, num_samples).shape[1] == eight


@pytest.mark.parametrize(
    ("kind", "name", "value", "plain"),
    [
        ("decibel", "window", "povey", "hanning"),
        ("decibel", "remove_mean", False, True),
        ("kaldi", "extremes", "padded_row", "clip"),
    ],
)
def test_settings_of_the_other_kind_are_refused(kind, name, value, plain) -> None:
    """D10's kind: a setting that is given is used, or refused by its name."""
    match = rf"^features: {name} has no effect on kind {kind}: leave it at {plain}, got {value!r}$"
    with pytest.raises(ValueError, match=match):
        LogMels(kind=kind, **{name: value})


def test_statistics_of_a_data_set_go_with_either_kind() -> None:
    """configs/runs/esc10/stage1.yaml sets them, behind BAT's recipe too (compare/esc10_family.yaml)."""
    waveforms, num_samples = padded_clips([16000], width=16000)
    plain, other = LogMels(kind="decibel"), LogMels(kind="decibel", mean=-6.627, std=5.359)
    assert torch.equal(other(waveforms, num_samples), plain(waveforms, num_samples))


@pytest.mark.parametrize("kind", ["kaldi", "decibel"])
@pytest.mark.parametrize("num_frames", [None, 64])
def test_a_clip_does_not_depend_on_its_batch(kind: Kind, num_frames: int | None) -> None:
    log_mels = LogMels(num_frames=num_frames, kind=kind)
    waveforms, num_samples = padded_clips(LENGTHS, width=17000)
    together = log_mels(waveforms, num_samples)
    padding = 0.0 if kind == "decibel" else log_mels.mean / (-2 * log_mels.std)
    for row, length in enumerate(LENGTHS):
        alone = log_mels(waveforms[row : row + 1, :length], num_samples[row : row + 1])[0]
        # Matrix products round differently for different numbers of rows; nothing else may differ.
        torch.testing.assert_close(together[row, : alone.shape[0]], alone, atol=1e-5, rtol=0)
        torch.testing.assert_close(
            together[row, alone.shape[0] :], torch.full_like(together[row, alone.shape[0] :], padding)
        )


@pytest.mark.parametrize("kind", ["kaldi", "decibel"])
def test_what_lies_behind_a_clip_is_ignored(kind: Kind) -> None:
    waveforms, num_samples = padded_clips(LENGTHS)
    behind = torch.arange(waveforms.shape[1]) >= num_samples[:, None]
    dirty = waveforms.masked_fill(behind, torch.nan)
    log_mels = LogMels(num_frames=96, kind=kind)
    torch.testing.assert_close(log_mels(dirty, num_samples), log_mels(waveforms, num_samples), atol=0, rtol=0)


def test_decibel_spans_zero_to_one_over_the_clip() -> None:
    waveforms, num_samples = padded_clips(LENGTHS)
    log_mels = LogMels(num_frames=128, kind="decibel")
    spectrograms = log_mels(waveforms, num_samples)
    for row, length in zip(spectrograms, LENGTHS, strict=True):
        valid = row[: log_mels.count_frames(length)]
        assert valid.min() == 0.0
        assert valid.max() == pytest.approx(1.0, abs=1e-6)
        assert row[len(valid) :].eq(0.0).all()


def test_a_clip_is_scaled_before_it_is_cut() -> None:
    """D10: the loudest and the quietest value may be in what is cut off."""
    waveforms = torch.cat([torch.full((1, 8000), 0.01), torch.ones(1, 8000)], dim=1) * torch.randn(1, 16000)
    lengths = torch.tensor([16000])
    short, long = (LogMels(num_frames=frames, kind="decibel")(waveforms, lengths)[0] for frames in (32, 112))
    assert short.max() < 0.9
    torch.testing.assert_close(short, long[:32], atol=0, rtol=0)


def test_extremes_of_a_padded_row_count_its_silence() -> None:
    """D10: as published, a clip that is shorter than another of its batch spans all of its 80 dB."""
    waveforms, num_samples = padded_clips([16000, 8000])
    behind = torch.arange(16000) >= num_samples[:, None]
    rows = LogMels(num_frames=112, kind="decibel", extremes="padded_row")
    found = rows(waveforms.masked_fill(behind, torch.nan), num_samples)
    as_one = torch.full_like(num_samples, 16000)
    torch.testing.assert_close(found, LogMels(num_frames=112, kind="decibel")(waveforms, as_one), atol=0, rtol=0)
    assert found[1, :40].min() > LogMels(num_frames=112, kind="decibel")(waveforms, num_samples)[1, :40].min() + 0.1


def test_decibels_by_hand() -> None:
    decibels = torch.tensor([[[10.0, -10.0], [-30.0, -200.0], [500.0, -500.0]]])
    valid = torch.tensor([[True, True, False]])
    expected = torch.tensor([[[1.0, 0.75], [0.5, 0.0], [0.0, 0.0]]])  # floor at 10 - 80 dB
    torch.testing.assert_close(scaled_decibels(decibels, valid), expected, atol=1e-6, rtol=0)


def test_mel_decibels_are_those_of_torchaudio() -> None:
    """D10: every clip of a batch by itself, mirrored at its own end; short and of other rates too."""
    from torchaudio.transforms import AmplitudeToDB, MelSpectrogram

    for rate_hz, num_mels, lengths in ((16000, 128, [16000, 9111, 513]), (32000, 64, [20000, 15999])):
        hop, size = rate_hz // 100, rate_hz * 64 // 1000
        public = MelSpectrogram(rate_hz, size, hop_length=hop, n_mels=num_mels)
        waveforms, num_samples = padded_clips(lengths)
        found = mel_decibels(waveforms, num_samples, rate_hz, num_mels)
        for row, length in zip(found, lengths, strict=True):
            wanted = AmplitudeToDB("power", top_db=None)(public(waveforms[lengths.index(length), :length])).T
            assert len(wanted) == 1 + length // hop
            torch.testing.assert_close(row[: len(wanted)], wanted, atol=2e-3, rtol=0)


def test_decibel_tables_do_not_depend_on_the_default_type() -> None:
    """U7's kind: the tables are cached."""
    before = decibel_tables(16000, 40, torch.device("cpu"))
    decibel_tables.cache_clear()
    torch.set_default_dtype(torch.float64)
    try:
        after = decibel_tables(16000, 40, torch.device("cpu"))
    finally:
        torch.set_default_dtype(torch.float32)
        decibel_tables.cache_clear()
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other, atol=0, rtol=0)


def test_decibels_of_one_level_or_of_nothing_are_zero() -> None:
    log_mels = torch.stack([torch.full((3, 4), -7.0), torch.randn(3, 4, generator=torch.Generator().manual_seed(0))])
    valid = torch.tensor([[True, True, True], [False, False, False]])
    assert scaled_decibels(log_mels, valid).eq(0.0).all()


def test_float32_under_autocast() -> None:
    waveforms, num_samples = padded_clips(LENGTHS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = LogMels(num_frames=64)(waveforms, num_samples)
    torch.testing.assert_close(inside, LogMels(num_frames=64)(waveforms, num_samples), atol=0, rtol=0)


def test_short_clip_is_named() -> None:
    waveforms, num_samples = padded_clips([16000, 2799, 100])
    message = r"between 2800 samples \(one patch of 16 frames\) and the batch's 16000, row 1 has 2799"
    for num_frames in (None, 64):
        with pytest.raises(ValueError, match=message):
            LogMels(num_frames=num_frames)(waveforms, num_samples)


def test_clip_longer_than_its_batch_is_named() -> None:
    with pytest.raises(ValueError, match=r"and the batch's 16000, row 1 has 16001"):
        LogMels()(torch.zeros(2, 16000), torch.tensor([16000, 16001]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_frames": 1000}, "num_frames must be a positive multiple of patch_frames = 16, or null, got 1000"),
        ({"num_frames": 0}, "num_frames must be a positive multiple of patch_frames = 16, or null, got 0"),
        ({"patch_frames": 0}, "patch_frames must be at least 1, got 0"),
        ({"std": 0.0}, "std must be positive, got 0.0"),
        ({"std": math.nan}, "std must be positive, got nan"),
        ({"num_mels": 3}, "num_mels must be at least 4, got 3"),
        ({"sample_rate_hz": 16}, "sample_rate_hz must be at least 1000 Hz, got 16"),
        ({"num_frames": 60_016}, "num_frames must be at most 60000, got 60016"),
        ({"num_frames": None, "patch_frames": 10**9}, "patch_frames must be at most 60000, got 1000000000"),
        ({"num_mels": 1025}, "num_mels must be at most 1024, got 1025"),
        ({"sample_rate_hz": 768_001}, "sample_rate_hz must be at most 768000, got 768001"),
        ({"kind": "mfcc"}, "kind must be one of kaldi, decibel, got 'mfcc'"),
        ({"extremes": "batch"}, "extremes must be one of clip, padded_row, got 'batch'"),
    ],
)
def test_wrong_settings(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LogMels(**settings)
