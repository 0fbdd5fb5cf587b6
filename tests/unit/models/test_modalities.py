"""Front-ends for waveforms, images, text and MAE-AST's tokens; what encoders and teachers make of them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sslam_lightning.models import (
    ConvPositionsConfig,
    Encoder,
    EncoderConfig,
    ImageConfig,
    SpectrogramTokensConfig,
    Teacher,
    TextConfig,
    WaveformConfig,
)
from sslam_lightning.types import Batch, Grid, ImageBatch, TextBatch

WAVEFORM = WaveformConfig(((6, 10, 5), (6, 3, 2), (6, 2, 2)))
TEXT = TextConfig(vocabulary=30, max_tokens=12)
SIZE = {"dim": 16, "depth": 2, "num_heads": 2}


def waveform_encoder() -> Encoder:
    positions = ConvPositionsConfig(2, 6, 4)
    config = EncoderConfig(**SIZE, front_end=WAVEFORM, cls_token=False, conv_positions=positions, alibi="learned")
    return Encoder(config).eval()


def text_encoder(**switches) -> Encoder:
    return Encoder(EncoderConfig(**SIZE, front_end=TEXT, cls_token=False, **switches)).eval()


def rest(rows: int) -> tuple:
    return torch.zeros(rows, 0), torch.arange(rows), ("name",) * rows


def test_default_waveform_tokens_come_every_20_ms() -> None:
    front_end = WaveformConfig().build(8)
    assert front_end.grid(torch.zeros(1, 16000)) == Grid(49, 1)
    assert front_end.min_samples == 400  # 25 ms
    assert front_end.takes.num_tokens(torch.tensor([399, 400, 719, 720])).tolist() == [0, 1, 1, 2]
    with pytest.raises(ValueError, match=r"one token takes 400 samples, got clips of 399"):
        front_end.grid(torch.zeros(1, 399))


def test_waveforms_are_normalized_over_their_own_samples() -> None:
    front_end = WAVEFORM.build(16)
    waveforms = 3.0 + torch.randn(2, 500)
    clips, padding = front_end.read(Batch(waveforms, [500, 300], *rest(2)))
    for row, length in enumerate((500, 300)):
        own = waveforms[row, :length]
        torch.testing.assert_close(clips[row, :length], F.layer_norm(own, own.shape), rtol=1e-4, atol=1e-5)
    assert not clips[1, 300:].any()
    assert (~padding).sum(dim=1).tolist() == front_end.takes.num_tokens(torch.tensor([500, 300])).tolist()
    assert front_end.read(Batch(waveforms, [500, 500], *rest(2))).padding is None


def test_a_waveform_token_sees_its_own_samples_only() -> None:
    front_end, clips = WAVEFORM.build(16), torch.randn(1, 500)
    tokens = front_end(clips)
    assert tokens.shape[1] == front_end.grid(clips).num_patches
    changed = clips.clone()
    changed[0, front_end.min_samples :] = 0.0
    torch.testing.assert_close(front_end(changed)[0, 0], tokens[0, 0])
    assert not torch.allclose(front_end(changed)[0, 1:], tokens[0, 1:])


def test_hidden_tokens_do_not_reach_the_student_through_positions_by_convolution() -> None:
    encoder, index = waveform_encoder(), torch.tensor([[0, 1, 4, 9]])
    embedded = torch.randn(1, 12, 16)
    changed = embedded.clone()
    changed[:, [2, 3, 5, 6, 7, 8, 10, 11]] = 7.0
    seen, otherwise = (encoder.select_tokens(x, Grid(12, 1), index) for x in (embedded, changed))
    torch.testing.assert_close(seen.tokens, otherwise.tokens)
    assert not torch.allclose(seen.tokens, embedded[:, index[0]])  # positions have come to them
    assert not torch.allclose(seen.tokens, encoder.select_tokens(embedded, Grid(12, 1)).tokens[:, index[0]])


def test_choosing_all_tokens_is_choosing_none() -> None:
    encoder, embedded = waveform_encoder(), torch.randn(2, 12, 16)
    everything = torch.arange(12).expand(2, -1)
    padding = torch.arange(12) >= torch.tensor([[12], [7]])
    one, other = (encoder.select_tokens(embedded, Grid(12, 1), index, padding) for index in (None, everything))
    torch.testing.assert_close(one.tokens, other.tokens)
    assert torch.equal(one.padding, other.padding)
    torch.testing.assert_close(one.bias.expand(2, -1, -1, -1), other.bias)


def test_padding_follows_its_tokens() -> None:
    encoder, embedded = waveform_encoder(), torch.randn(2, 5, 16)
    padding = torch.tensor([[False] * 5, [False, False, False, True, True]])
    index = torch.tensor([[0, 4], [1, 2], [3, 4], [0, 3]])  # two masks a clip
    seen = encoder.select_tokens(embedded, Grid(5, 1), index, padding)
    assert seen.padding.tolist() == [[False, False], [False, False], [True, True], [False, True]]


def test_without_a_cls_token_the_mean_of_written_tokens_stands_for_the_clip() -> None:
    encoder = text_encoder()
    tokens = torch.randint(4, 30, (2, 12))
    padding = torch.arange(12) >= torch.tensor([[12], [7]])
    tokens[padding] = 1
    encoded = encoder(tokens, padding)
    torch.testing.assert_close(encoded.cls[0], encoded.tokens[0].mean(dim=0))
    torch.testing.assert_close(encoded.cls[1], encoded.tokens[1, :7].mean(dim=0))
    alone = encoder(tokens[1:, :7])
    torch.testing.assert_close(alone.tokens[0], encoded.tokens[1, :7], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(alone.cls[0], encoded.cls[1], rtol=1e-4, atol=1e-5)


def test_text_is_the_sum_of_token_and_place() -> None:
    front_end = TEXT.build(16)
    clips = torch.tensor([[5, 9, 5, 1]])
    by_hand = [front_end.tokens.weight[token] + front_end.places.weight[place] for token, place in ((5, 2), (9, 3), (5, 4))]
    torch.testing.assert_close(front_end(clips)[0, :3], front_end.norm(torch.stack(by_hand)))
    front_end(clips).sum().backward()
    assert not front_end.tokens.weight.grad[1].any()  # padding is never trained
    with pytest.raises(ValueError, match=r"texts of 13 tokens are longer than max_tokens = 12"):
        front_end.grid(torch.zeros(1, 13, dtype=torch.int64))
    batch = TextBatch(clips, torch.tensor([3]), *rest(1))
    assert front_end.read(batch).padding.tolist() == [[False, False, False, True]]


def test_image_patches_are_those_of_a_convolution() -> None:
    front_end, images = ImageConfig(4, 3).build(16), torch.randn(2, 3, 8, 12)
    assert front_end.grid(images) == Grid(2, 3)
    embedded = front_end.proj(images).flatten(2).transpose(1, 2)
    positions = front_end(torch.zeros(1, 3, 8, 12)) - front_end.proj.bias
    torch.testing.assert_close(front_end(images), embedded + positions)
    torch.testing.assert_close(front_end.patchify(images)[0, 4], images[0, :, 4:8, 4:8].flatten())  # row 1, column 1
    assert front_end.num_values == 48
    assert front_end.read(ImageBatch(images, *rest(2))).padding is None
    for shape in ((3, 8, 10), (1, 8, 8)):
        with pytest.raises(ValueError, match=r"expects images of 3 channels and of sides in multiples of 4 pixels"):
            front_end.grid(torch.zeros(1, *shape))


def test_spectrogram_tokens_are_normalized_over_the_batch() -> None:
    front_end = SpectrogramTokensConfig(2, 8, 8).build(16)
    log_mels = 5 + 3 * torch.randn(4, 6, 8)
    patches = front_end.patchify(log_mels)
    assert front_end.grid(log_mels) == Grid(3, 1)
    assert patches.shape == (4, 3, 16)
    assert patches.mean().item() == pytest.approx(0, abs=1e-5)
    assert patches.std(correction=0).item() == pytest.approx(0.5, rel=1e-4)
    expected = (log_mels - log_mels.mean()) / log_mels.std(correction=0) / 2
    torch.testing.assert_close(patches[1, 2], expected[1, 4:6].flatten(), rtol=1e-4, atol=1e-5)
    front_end.eval()
    assert torch.equal(front_end.patchify(log_mels)[:1], front_end.patchify(log_mels[:1]))  # not of the batch any more
    with pytest.raises(ValueError, match=r"expects frames in multiples of 2 and 8 mels, got 5 frames and 8 mels"):
        front_end.grid(torch.zeros(1, 5, 8))
    with pytest.raises(ValueError, match=r"num_mels must be a multiple of token_mels"):
        SpectrogramTokensConfig(16, 48)


def test_front_ends_without_patches_say_so() -> None:
    with pytest.raises(ValueError, match=r"TokenEmbeddings front-end has no patches that could be reconstructed"):
        TEXT.build(16).patchify(torch.zeros(1, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"SpectrogramTokens front-end reads features, but model.features is null"):
        SpectrogramTokensConfig().build(16).read(None)


@pytest.mark.parametrize(
    ("parts", "own"), [("context", {"alibi", "blocks", "conv_positions", "input_norm"}), ("blocks", {"blocks"})]
)
def test_a_teacher_may_share_parts_with_the_student(parts, own) -> None:
    student = waveform_encoder()
    teacher = Teacher(student, parts)
    assert {name.split(".")[0] for name, _ in teacher.encoder.named_parameters()} == own
    clips = torch.randn(2, 500)
    embedded, grid = student.embed(clips), student.front_end.grid(clips)
    expected = student(clips)
    kept = student.encode(*student.select_tokens(embedded, grid), keep_layers=2).hidden_states
    assert torch.equal(teacher.embed(clips, embedded), embedded)
    assert not teacher.embed(clips, embedded).requires_grad
    entered = teacher.prepare_tokens(student, embedded, grid)
    for ours, theirs in zip(teacher.layers(entered, keep_layers=2), kept, strict=True):
        torch.testing.assert_close(ours, theirs)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1.0)
    before = {name: value.clone() for name, value in teacher.encoder.named_parameters()}
    teacher.update_ema(student, 0.25)
    for name, value in teacher.encoder.named_parameters():
        torch.testing.assert_close(value, before[name] + 0.75)
    assert expected.tokens.shape == (2, grid.num_patches, 16)


def test_a_teacher_takes_over_running_averages() -> None:
    config = EncoderConfig(**SIZE, front_end=SpectrogramTokensConfig(2, 8, 8), cls_token=False)
    student = Encoder(config)
    teacher = Teacher(student)
    student.embed(5 + torch.randn(2, 4, 8))
    teacher.update_ema(student, 0.9)
    assert torch.equal(teacher.encoder.front_end.norm.running_mean, student.front_end.norm.running_mean)
    assert student.front_end.norm.running_mean.item() == pytest.approx(0.5, abs=0.1)
