"""One module for sound of any rate, length and number."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchaudio.functional import resample

from sslam_lightning.features import LogMels
from sslam_lightning.inference import AudioModel
from sslam_lightning.inference.encoding import check_layer
from sslam_lightning.layers import PositionTable
from sslam_lightning.models import Encoder, EncoderConfig


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.1


def no_positions(num_tokens: int) -> torch.Tensor:
    return torch.zeros(num_tokens, 16)


POOLINGS = [None, "cls", "mean", "linear_softmax"]


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_result_does_not_depend_on_the_batch_or_its_padding(make_model, pooling) -> None:
    model = make_model(pooling, padding="masked")
    lengths = torch.tensor([2800, 16000, 9000, 30000, 12345])
    clips = [noise(int(length), seed=row) for row, length in enumerate(lengths)]
    batch = torch.full((5, 40000), 7.0)  # what lies behind an end is anything
    for row, clip in zip(batch, clips, strict=True):
        row[: len(clip)] = clip
    together = model.encode(batch, lengths)
    for row, clip in enumerate(clips):
        alone = model.encode(clip[None], lengths[row : row + 1])
        count = int(alone.num_frames[0])
        assert together.num_frames[row] == count
        torch.testing.assert_close(together.clip[row], alone.clip[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(together.frames[row, :count], alone.frames[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(together.patches[row, :count], alone.patches[0], atol=1e-5, rtol=0)
        if pooling:
            torch.testing.assert_close(together.probs[row], alone.probs[0], atol=1e-5, rtol=0)
    # and the test could fail: without the mask, padding is heard
    seen = model.encoder(model.any_length_features(batch, lengths))
    assert (seen.cls[0] - together.clip[0]).abs().max() > 1e-3


@pytest.mark.parametrize("pooling", POOLINGS[1:])
def test_tags_are_those_of_the_recorded_pipeline(make_model, pooling) -> None:
    """Padded to the trained length before normalization, the padding seen: the default where there is a head."""
    model = make_model(pooling)
    assert model.padding == "trained"
    waveform = noise(6000)
    log_mels = LogMels(num_frames=64)(waveform[None], torch.tensor([6000]))
    expected = model.head(model.encoder(log_mels)).sigmoid()[0]
    found = model(waveform, 16000)
    torch.testing.assert_close(found.probs, expected, atol=1e-6, rtol=0)
    assert len(found.frames) == 3  # 36 frames of 10 ms: the padding's patches are left out
    masked = make_model(pooling, padding="masked")(waveform, 16000)
    assert (masked.probs - expected).abs().max() > 1e-3
    single_label = make_model(pooling, multi_label=False)(waveform, 16000)
    torch.testing.assert_close(single_label.probs, model.head(model.encoder(log_mels)).softmax(dim=1)[0], atol=1e-6, rtol=0)


def test_embeddings_are_the_encoders(make_model) -> None:
    model = make_model()
    waveform = noise(16000)
    found = model(waveform, 16000)
    encoded = model.encoder(LogMels(num_frames=112)(waveform[None], torch.tensor([16000])))  # 98 frames, 7 patches
    patches = encoded.tokens[0].view(7, 8, 16)
    torch.testing.assert_close(found.clip, encoded.cls[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(found.patches, patches, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.frames, patches.mean(dim=1), atol=1e-6, rtol=0)
    assert found.probs is None
    assert found.clip.dtype == torch.float32


def test_layers(make_model) -> None:
    waveform = noise(2, 16000)
    every = make_model(layer="all")(waveform, 16000)
    assert every.clip.shape == (2, 2, 16)
    assert every.frames.shape == (2, 7, 2, 16)
    assert every.patches.shape == (2, 7, 8, 2, 16)
    for number, layer in ((0, 1), (1, 2), (1, -1), (0, -2)):
        one = make_model(layer=layer)(waveform, 16000)
        torch.testing.assert_close(one.clip, every.clip[:, number])
        torch.testing.assert_close(one.patches, every.patches[..., number, :])
    mean = make_model(layer="mean")(waveform, 16000)
    torch.testing.assert_close(mean.frames, every.frames.mean(dim=2))
    # tags come from the last block whatever is embedded
    assert torch.equal(make_model("mean", layer=1)(waveform, 16000).probs, make_model("mean")(waveform, 16000).probs)
    for wrong in (0, 3, -3, "last", 1.0, 1.5, True):
        with pytest.raises(ValueError, match=f"layer must be 1 to 2, -2 to -1, mean or all, got {wrong!r}"):
            check_layer(wrong, 2)


def test_layers_of_a_pre_norm_encoder_end_behind_its_output_norm() -> None:
    encoder = Encoder(EncoderConfig(dim=16, depth=2, num_heads=2, norm="pre", prenet_depth=1)).eval()
    encoder.output_norm.weight.data.uniform_(0.5, 2)
    waveform = noise(1, 12000)
    encoded = encoder(LogMels(num_frames=80)(waveform, torch.tensor([12000])))
    torch.testing.assert_close(AudioModel(encoder)(waveform, 16000).clip, encoded.cls, atol=1e-6, rtol=0)


def test_any_rate_and_any_channels(make_model) -> None:
    model = make_model()
    stereo = noise(2, 44100)
    expected = model(resample(stereo.mean(dim=0), 44100, 16000), 16000)
    found = model(stereo[None], 44100)
    torch.testing.assert_close(found.frames[0], expected.frames, atol=1e-4, rtol=0)
    assert found.clip.shape == (1, 16)
    rows = model(torch.stack([stereo.mean(dim=0), stereo[0]]), 44100)
    torch.testing.assert_close(rows.frames[0], expected.frames, atol=1e-4, rtol=0)
    for wrong in (torch.zeros(0), torch.zeros(1, 1, 1, 5), torch.tensor(1.0)):
        with pytest.raises(
            ValueError, match=r"a waveform is \(samples,\), \(rows, samples\) or \(rows, channels, samples\)"
        ):
            model(wrong, 16000)


def test_sound_shorter_than_a_patch_is_followed_by_silence(make_model) -> None:
    model = make_model()
    found = model(noise(10), 16000)
    assert found.frames.shape == (1, 16)
    torch.testing.assert_close(found.clip, model(torch.cat([noise(10), torch.zeros(2790)]), 16000).clip)


def test_times_are_the_middles_of_frames(make_model) -> None:
    times = make_model()(noise(32000), 16000).timestamps
    # a frame of 16 windows of 25 ms, one every 10 ms: from 0 to 175 ms
    torch.testing.assert_close(times, 0.0875 + 0.16 * torch.arange(13, dtype=torch.float64))


def test_two_minutes_are_one_pass(make_model) -> None:
    model = make_model()
    waveform = noise(120 * 16000)
    found = model(waveform, 16000)
    alone = model.encode(waveform[None], torch.tensor([len(waveform)]))
    assert len(found.frames) == 750
    torch.testing.assert_close(found.frames, alone.frames[0], atol=1e-6, rtol=0)


@pytest.mark.parametrize("seconds", [120.4, 150.0, 260.01])
def test_longer_sound_has_every_frame_once(make_model, seconds) -> None:
    """Blocks that do not mix tokens, and no positions: then a frame depends on its own sound alone."""
    model = make_model()
    for block in model.encoder.blocks:
        block.attn.proj.weight.data.zero_()
    model.encoder.front_end._positions = PositionTable(no_positions)
    waveform = noise(round(seconds * 16000))
    found = model(waveform, 16000)
    num_frames = -(-((len(waveform) - 400) // 160 + 1) // 16)
    assert len(found.frames) == len(found.timestamps) == num_frames
    whole = model.encode(waveform[None], torch.tensor([len(waveform)]))
    torch.testing.assert_close(found.frames, whole.frames[0], atol=2e-5, rtol=0)


@pytest.mark.parametrize("with_positions", [False, True])
def test_windows_join_without_a_seam(make_model, with_positions) -> None:
    """Blocks that mix all tokens, on a steady sound: frames at a join differ no more than others.

    Where nothing but position tells frames of one pass from those of windows, windows without positions agree with it.
    """
    model = make_model()
    if not with_positions:
        model.encoder.front_end._positions = PositionTable(no_positions)
    waveform = noise(20 * 16000)
    one_pass = model.encode(waveform[None], torch.tensor([len(waveform)])).frames[0]
    model.windows = lambda: type(model).windows(model, 8.0, 2.0)
    joined = model(waveform, 16000).frames
    assert joined.shape == one_pass.shape
    similarity = torch.cosine_similarity(joined, one_pass, dim=1)
    assert similarity.min() > (0.8 if with_positions else 0.995)
    steps = (joined[1:] - joined[:-1]).norm(dim=1)
    assert all(steps[start - 2 : start + 14].mean() < 1.2 * steps.mean() for start in (38, 76)), "windows start there"
    # what only one window sees is what that window says
    first = model.encode(waveform[None, : 400 + 799 * 160], torch.tensor([128240]))
    torch.testing.assert_close(joined[:38], first.frames[0, :38])


def test_windows_of_a_classifier_are_the_trained_length(make_model) -> None:
    model = make_model("mean")
    assert model.windows() == (64, 16)
    assert model.windows(0.32, 0.0) == (32, 0)
    with pytest.raises(ValueError, match=r"with padding as trained a window has at most 0.64 s, got 1 s"):
        model.windows(1.0)
    found = model(noise(16000), 16000)  # 98 frames: 0-64, 48-98
    features = LogMels(num_frames=64)
    spans = [(0, 400 + 63 * 160), (48 * 160, 16000)]
    parts = [noise(16000)[None, start:stop] for start, stop in spans]
    tags = [model.head(model.encoder(features(part, torch.tensor([part.shape[1]])))).sigmoid()[0] for part in parts]
    torch.testing.assert_close(found.probs, (4 * tags[0] + 4 * tags[1]) / 8, atol=1e-5, rtol=0)
    assert len(found.frames) == 7


def test_bfloat16_is_close_and_comes_out_as_float32(make_model) -> None:
    exact, rough = (make_model("mean", bf16=bf16)(noise(16000), 16000) for bf16 in (False, True))
    assert rough.frames.dtype == rough.probs.dtype == torch.float32
    assert 0 < (rough.frames - exact.frames).abs().max() < 0.1


@pytest.mark.parametrize("padding", ["masked", "trained"])
@pytest.mark.parametrize("layer", [-1, "mean", "all"])
def test_the_mean_of_the_patches_is_a_clip_embedding(make_model, padding, layer) -> None:
    """R33: of a sound alone, of one in a batch and of one of several windows; tags stay as they are."""
    settings = {"padding": padding, "layer": layer}
    model, other = make_model("mean", pool="mean", **settings), make_model("mean", **settings)
    assert (model.pool, other.pool) == ("mean", "cls")
    for waveform in (noise(4000), noise(2, 30000)):
        found, by_default = model(waveform, 16000), other(waveform, 16000)
        torch.testing.assert_close(found.clip, found.patches.mean(dim=(-4, -3) if layer == "all" else (-3, -2)))
        torch.testing.assert_close(found.patches, by_default.patches)
        torch.testing.assert_close(found.probs, by_default.probs)
        assert (found.clip - by_default.clip).abs().max() > 0.05
    lengths = torch.tensor([4000, 9000])
    batch = torch.full((2, 10000), 7.0)
    for row, length in enumerate(lengths):
        batch[row, :length] = noise(int(length), seed=row)
    together = model.encode(batch, lengths)
    for row, count in enumerate(together.num_frames):
        torch.testing.assert_close(together.clip[row], together.patches[row, :count].mean(dim=(0, 1)))
    with pytest.raises(ValueError, match=r"^pool cannot be cls: this model has no CLS token; set it to mean"):
        AudioModel(Encoder(EncoderConfig(dim=16, depth=1, num_heads=2, cls_token=False)), pool="cls")


@pytest.mark.parametrize("rate_hz", [44100.0, np.float32(44100), np.int64(44100), torch.tensor(44100.0)], ids=type)
def test_a_whole_rate_may_be_a_float(make_model, rate_hz) -> None:
    """U9: what other libraries hand out."""
    waveform = noise(30000)
    torch.testing.assert_close(make_model()(waveform, rate_hz).clip, make_model()(waveform, 44100).clip, atol=0, rtol=0)


@pytest.mark.parametrize("rate_hz", [44100.5, math.nan, math.inf, "44100", None, True], ids=str)
def test_a_rate_that_is_no_whole_number(make_model, rate_hz) -> None:
    """U9."""
    with pytest.raises(ValueError, match=rf"^sample_rate_hz must be a whole number of Hz, got {rate_hz!r}$"):
        make_model()(noise(30000), rate_hz)


def test_what_does_not_fit_is_refused(make_model) -> None:
    with pytest.raises(ValueError, match="padding must be one of masked, trained, got 'none'"):
        make_model(padding="none")
    with pytest.raises(ValueError, match=r"no trained length, its features.num_frames is null; leave padding out"):
        make_model(trained_frames=None, padding="trained")
    with pytest.raises(ValueError, match="pool must be one of cls, mean, got 'max'"):
        make_model(pool="max")
    encoder = Encoder(EncoderConfig(dim=16, depth=1, num_heads=2))
    with pytest.raises(ValueError, match="this model reads log-mels: leave waveform_rate_hz out, got 8000"):
        AudioModel(encoder, waveform_rate_hz=8000)
    with pytest.raises(ValueError, match="the encoder expects 128 mels in patches of 16 frames, the features have 64 mels"):
        AudioModel(encoder, features=LogMels(num_mels=64))


@pytest.mark.parametrize(
    ("waveform", "came"),
    [
        (torch.zeros(16000, dtype=torch.int16), "a tensor of torch.int16"),
        (torch.zeros(16000, dtype=torch.bool), "a tensor of torch.bool"),
        (torch.zeros(16000, dtype=torch.complex64), "a tensor of torch.complex64"),
        (np.zeros(16000, np.float32), "ndarray"),
        ([0.0] * 16000, "list"),
    ],
    ids=["int16", "bool", "complex64", "array", "list"],
)
def test_a_waveform_is_of_floating_point_numbers(make_model, waveform, came) -> None:
    """Whole numbers were taken as if their full scale were 1."""
    with pytest.raises(ValueError, match=rf"^a waveform is a floating-point tensor of full scale 1, got {came}: make a te"):
        make_model()(waveform, 16000)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_any_floating_point_numbers_will_do(make_model, dtype) -> None:
    found, expected = (make_model()(waveform, 16000).clip for waveform in (noise(16000).to(dtype), noise(16000)))
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


def test_results_can_be_trained_on(make_model) -> None:
    probe = torch.nn.Linear(16, 2)
    probe(make_model()(noise(16000), 16000).clip).sum().backward()
    assert probe.weight.grad is not None


def test_features_of_layers_are_those_of_the_models_layer(make_model) -> None:
    """In the order asked for, of one sound, of several and of those longer than a window; the last block makes `probs`."""
    for waveform in (noise(16000), noise(2, 16000), noise(24000)):
        settings = {"pooling": "mean", "padding": "trained"}
        single = {number: make_model(layer=number, **settings)(waveform, 16000) for number in (1, 2)}
        model = make_model(**settings)
        for layers, numbers in (([2, 1], (2, 1)), ([-2], (1,)), ("all", (1, 2))):
            found = model.extract_features(waveform, 16000, layers=layers)
            for part in ("clip", "frames", "patches"):
                expected = torch.stack([getattr(single[number], part) for number in numbers], dim=-2)
                torch.testing.assert_close(getattr(found, part), expected, atol=1e-6, rtol=1e-5)
            torch.testing.assert_close(found.probs, single[1].probs, atol=1e-6, rtol=1e-5)
            assert torch.equal(found.timestamps, single[1].timestamps)
        assert model.layer == 2


@pytest.mark.parametrize("layers", [[], "mean", [0], [3], ["all"], [1.0]])
def test_layers_that_there_are_none_of(make_model, layers) -> None:
    with pytest.raises(ValueError, match=r"layers? must be .*1 to 2"):
        make_model().extract_features(noise(16000), 16000, layers=layers)
