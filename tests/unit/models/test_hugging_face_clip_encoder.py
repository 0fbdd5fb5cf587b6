"""A model of transformers with the face of our own encoder: order of tokens, padding, layers, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sslam_lightning.features import LogMels
from sslam_lightning.models import (
    EncoderConfig,
    HuggingFaceClipEncoder,
    HuggingFaceConfig,
    LogMelInput,
    WaveformInput,
    build_encoder,
)
from sslam_lightning.types import Batch, Grid, ImageBatch, TextBatch

pytest.importorskip("transformers")

SIZE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
CONVOLUTIONS = {"conv_dim": [8, 8], "conv_kernel": [10, 3], "conv_stride": [5, 2], "num_feat_extract_layers": 2}
WAVES = {**CONVOLUTIONS, "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2, "feat_extract_norm": "layer"}
AST = {"max_length": 40, "num_mel_bins": 16, "patch_size": 8, "frequency_stride": 4, "time_stride": 6}
TEXT = {"vocab_size": 40, "max_position_embeddings": 20}
KINDS: dict[str, tuple[dict[str, Any], Any, Grid]] = {
    "roberta": (TEXT, lambda: torch.randint(4, 40, (2, 12)), Grid(12, 1)),
    "bert": (TEXT, lambda: torch.randint(4, 40, (2, 12)), Grid(12, 1)),
    "vit": ({"image_size": 16, "patch_size": 4}, lambda: torch.randn(2, 3, 16, 16), Grid(4, 4)),
    "beit": ({"image_size": 16, "patch_size": 4}, lambda: torch.randn(2, 3, 16, 16), Grid(4, 4)),
    "audio-spectrogram-transformer": (AST, lambda: torch.randn(2, 40, 16), Grid(6, 3)),
    "wav2vec2": (WAVES, lambda: torch.randn(2, 130), Grid(12, 1)),
}


def encoder(kind: str, **settings: Any) -> HuggingFaceClipEncoder:
    torch.manual_seed(0)
    known = {**SIZE, **KINDS.get(kind, (WAVES,))[0], **settings}
    return HuggingFaceClipEncoder(HuggingFaceConfig(kind, {name: value for name, value in known.items() if value})).eval()


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_and_layers_are_the_model_s_own_in_our_order(kind: str) -> None:
    model, clips, grid = encoder(kind), KINDS[kind][1](), KINDS[kind][2]
    assert model.front_end.grid(clips) == grid
    plain = model.model(clips, output_hidden_states=True)
    own = [*plain.hidden_states[1:-1], plain.last_hidden_state]
    own = [states[:, -grid.num_patches :] for states in own]
    if kind == "audio-spectrogram-transformer":  # mel by mel there, time-major here
        own = [states.reshape(2, grid.freq, grid.time, 16).transpose(1, 2).reshape(2, -1, 16) for states in own]
    found = list(model.layer_outputs(clips))
    assert (len(found), model.dim, model.depth, model.cls_token) == (2, 16, 2, None)
    for ours, theirs in zip(found, own, strict=True):
        assert torch.equal(ours, theirs)
    encoded = model(clips)
    torch.testing.assert_close(encoded.tokens, own[-1])
    torch.testing.assert_close(encoded.cls, own[-1].mean(dim=1))


@pytest.mark.parametrize("kind", ["roberta", "bert", "audio-spectrogram-transformer"])
def test_what_is_padding_changes_nothing(kind: str) -> None:
    model, clips, (time, mel) = encoder(kind), KINDS[kind][1](), KINDS[kind][2]
    padding = torch.zeros(2, time, mel, dtype=torch.bool)
    padding[1, 3:] = True
    padding = padding.flatten(1)
    other = clips.clone()
    if kind == "audio-spectrogram-transformer":
        other[1, 2 * 6 + 8 :] = 5.0  # behind what the third token sees
    else:
        clips[1, 3:] = other[1, 3:] = model.takes.padding_token
        other[0] = 7
    for before, after in zip(model(clips, padding)[:2], model(other, padding)[:2], strict=True):
        torch.testing.assert_close(before[1][: 3 * mel], after[1][: 3 * mel])
    assert not torch.allclose(model(clips).cls[1], model(other).cls[1]) or kind != "audio-spectrogram-transformer"
    if kind != "audio-spectrogram-transformer":
        torch.testing.assert_close(model(clips, padding).cls[1], model(clips[1:, :3]).cls[0])


@pytest.mark.parametrize(
    ("kind", "settings", "apart"),
    [
        ("wav2vec2", {}, False),
        ("wav2vec2", {"do_stable_layer_norm": True}, False),
        ("wav2vec2", {"feat_extract_norm": "group"}, True),
        ("hubert", {}, False),
        ("data2vec-audio", {"feat_extract_norm": None}, True),
        ("wav2vec2-conformer", {}, True),
    ],
)
def test_a_waveform_is_the_same_alone_and_beside_a_longer_one(kind: str, settings: dict[str, Any], apart: bool) -> None:
    model = encoder(kind, **settings)
    waveforms, lengths = torch.randn(3, 130), torch.tensor([130, 73, 73])
    rest = torch.zeros(3, 0), torch.arange(3), ("", "", "")
    clips, padding = model.front_end.read(Batch(waveforms, lengths, *rest))
    assert (~padding).sum(dim=1).tolist() == [12, 6, 6]
    alone = model.front_end.read(Batch(waveforms[1:2, :73], lengths[1:2], *(part[1:2] for part in rest)))
    assert alone.padding is None
    together, single = model(clips, padding), model(*alone)
    torch.testing.assert_close(together.cls[1], single.cls[0])
    torch.testing.assert_close(together.tokens[1, :6], single.tokens[0])
    for one, other in zip(model.layer_outputs(clips, padding), model.layer_outputs(*alone), strict=True):
        torch.testing.assert_close(one[1, :6], other[0])
    calls = []
    model.model.register_forward_hook(lambda *_: calls.append(1))
    model(clips, padding)
    assert len(calls) == (2 if apart else 1)  # once for every length, where padding leaks through the model


@pytest.mark.parametrize("kind", ["wav2vec2", "hubert", "unispeech-sat"])
@pytest.mark.parametrize("normalize", [True, False])
def test_a_norm_over_the_time_sees_all_samples(kind: str, normalize: bool) -> None:
    """As transformers' own, of lengths that are no multiple of the hop; alone and beside a longer one."""
    model = encoder(kind, feat_extract_norm="group")
    model.front_end._normalize = normalize
    waveforms, lengths = torch.randn(3, 139) + 0.5, torch.tensor([139, 78, 77])
    rest = torch.zeros(3, 0), torch.arange(3), ("", "", "")
    for row, length in enumerate(lengths.tolist()):
        waveforms[row, length:] = 0
    together = model(*model.front_end.read(Batch(waveforms, lengths, *rest)))
    for row, length in enumerate(lengths.tolist()):
        own = waveforms[row : row + 1, :length]
        given = (own - own.mean()) / (own.var(correction=0) + 1e-7).sqrt() if normalize else own
        theirs = model.model(given).last_hidden_state[0]
        alone = model(*model.front_end.read(Batch(own, [length], *(part[:1] for part in rest)))).tokens[0]
        bound = 1e-4 * theirs.abs().max().item()
        torch.testing.assert_close(alone, theirs, rtol=0, atol=bound)
        torch.testing.assert_close(together.tokens[row, : len(theirs)], theirs, rtol=0, atol=bound)
        cut = model.model(given[:, : model.front_end.num_samples(len(theirs))]).last_hidden_state[0]
        assert (cut - theirs).abs().max() > bound  # whole tokens alone would not do


def test_what_the_front_end_reads() -> None:
    labels = torch.zeros(2, 0), torch.arange(2), ("", "")
    text = encoder("roberta").front_end.read(TextBatch(torch.ones(2, 5).long(), torch.tensor([5, 2]), *labels))
    assert text.padding.sum(dim=1).tolist() == [0, 3]
    images = torch.randn(2, 3, 16, 16)
    assert encoder("vit").front_end.read(ImageBatch(images, *labels)) == (images, None)
    assert encoder("vit").front_end.num_values == 3 * 4 * 4
    assert encoder("wav2vec2").takes == WaveformInput(((10, 5), (3, 2)))
    assert encoder("audio-spectrogram-transformer").takes == LogMelInput(16, 8, 6, 40)
    assert encoder("roberta").takes[:3] == (40, 18, 1)  # RoBERTa counts places from behind its padding token
    assert encoder("bert").takes[:3] == (40, 20, 0)


@pytest.mark.parametrize(
    ("kind", "clips", "message"),
    [
        ("roberta", torch.zeros(1, 19).long(), r"texts of 19 tokens are longer than the model's 18"),
        ("vit", torch.zeros(1, 3, 16, 20), r"images of 3 channels and 16 x 16 pixels, got 3 channels, 16 x 20"),
        ("vit", torch.zeros(1, 1, 16, 16), r"images of 3 channels and 16 x 16 pixels, got 1 channels, 16 x 16"),
        ("audio-spectrogram-transformer", torch.zeros(1, 39, 16), r"expects 40 frames and 16 mels, got 39 frames and 16"),
        ("wav2vec2", torch.zeros(1, 19), r"one token takes 20 samples, got clips of 19"),
    ],
)
def test_clips_that_the_model_does_not_take(kind: str, clips: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encoder(kind)(clips)


@pytest.mark.parametrize(
    ("kind", "message"),
    [("roberta", r"reads no sound, which the data give"), ("audio-spectrogram-transformer", r"but model.features is null")],
)
def test_sound_that_the_model_does_not_read(kind: str, message: str) -> None:
    batch = Batch(torch.zeros(1, 30), [30], torch.zeros(1, 0), torch.arange(1), ("",))
    with pytest.raises(ValueError, match=message):
        encoder(kind).front_end.read(batch)


def test_a_model_that_merges_its_tokens() -> None:
    with pytest.raises(ValueError, match=r"a Wav2Vec2Model puts out fewer tokens than the 12 that it embeds"):
        encoder("wav2vec2", add_adapter=True)(torch.randn(1, 130))


def test_log_mels_that_fit() -> None:
    one_length, any_length = LogMelInput(128, 16, 10, 1024), LogMelInput(128, 16, 16)
    fits = LogMels(num_frames=1024, patch_frames=8)  # how features are cut is nothing to a model of one length
    assert one_length.check(fits) is fits
    assert LogMels(**one_length.settings()).num_frames == 1024
    for takes, features, message in (
        (one_length, LogMels(num_frames=512), r"expects 128 mels of 1024 frames, the features have 128 mels of 512 frames"),
        (any_length, LogMels(num_mels=64), r"expects 128 mels in patches of 16 frames, the features have 64 mels"),
        (any_length, None, r"the features have no mels"),
    ):
        with pytest.raises(ValueError, match=message):
            takes.check(features)
    frames = torch.tensor([1, 16, 17, 26, 27, 1024])
    assert one_length.num_tokens(frames).tolist() == [1, 1, 2, 2, 3, 102]
    assert any_length.num_tokens(frames).tolist() == [1, 1, 2, 2, 2, 64]


@pytest.mark.parametrize("kind", KINDS)
def test_all_that_learns_takes_part_and_lies_in_a_layer(kind: str) -> None:
    model = encoder(kind).train()
    model(KINDS[kind][1]()).tokens.square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    names = dict(model.in_layers().named_parameters())
    assert {id(p) for p in names.values()} == {id(p) for p in model.parameters()}
    blocks = [{id(p) for p in block.parameters()} for block in model.all_blocks()]
    assert len(blocks) == 2
    for number, block in enumerate(blocks):
        assert {id(p) for name, p in names.items() if name.startswith(f"blocks.{number}.")} == block
    below = model.model.get_submodule(model.token_module)
    assert {id(p) for p in below.parameters()} <= {id(p) for name, p in names.items() if name.startswith("front_end.")}
    above = {id(p) for name, p in names.items() if name.startswith("model.")}
    assert not above & set.union(*blocks)


def test_a_whole_configuration_builds_the_same_model(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = encoder("wav2vec2")
    (tmp_path / "wav2vec2").mkdir()
    (tmp_path / "wav2vec2/config.json").write_text("{}")  # a folder of the type's name is not what is meant
    monkeypatch.chdir(tmp_path)
    again = build_encoder(HuggingFaceConfig("wav2vec2", model.whole_config()))
    assert again.whole_config() == model.whole_config()
    again.load_state_dict(model.state_dict())
    clips = torch.randn(1, 90)
    assert torch.equal(again.eval()(clips).tokens, model(clips).tokens)
    assert build_encoder(EncoderConfig(dim=32, depth=1, num_heads=2)).dim == 32
