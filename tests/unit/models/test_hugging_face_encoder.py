"""Tokens of a model of transformers are hidden where they are made, and nowhere else; its teacher is a moving average."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sslam_lightning.models import HuggingFaceConfig, HuggingFaceEncoder, HuggingFaceTeacher
from sslam_lightning.types import Batch, Grid

transformers = pytest.importorskip("transformers")

SIZE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
CONVOLUTIONS = {"conv_dim": [8, 8], "conv_kernel": [10, 3], "conv_stride": [5, 2], "num_feat_extract_layers": 2}
WAV2VEC2 = {**SIZE, **CONVOLUTIONS, "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}
AST = {**SIZE, "max_length": 32, "num_mel_bins": 16, "patch_size": 8, "frequency_stride": 8, "time_stride": 8}
KINDS = {
    "roberta": (
        {**SIZE, "vocab_size": 40, "max_position_embeddings": 20},
        lambda: torch.randint(4, 40, (2, 12)),
        Grid(12, 1),
    ),
    "vit": ({**SIZE, "image_size": 16, "patch_size": 4}, lambda: torch.randn(2, 3, 16, 16), Grid(4, 4)),
    "audio-spectrogram-transformer": (AST, lambda: torch.randn(2, 32, 16), Grid(2, 4)),  # mels by time
    "wav2vec2": ({**WAV2VEC2, "feat_extract_norm": "layer"}, lambda: torch.randn(2, 130), Grid(12, 1)),
}


def encoder(kind: str) -> HuggingFaceEncoder:
    torch.manual_seed(0)
    return HuggingFaceEncoder(HuggingFaceConfig(kind, KINDS[kind][0])).eval()


@pytest.mark.parametrize("kind", KINDS)
def test_whole_clips_are_what_the_plain_model_makes_of_them(kind: str) -> None:
    model, clips = encoder(kind), KINDS[kind][1]()
    found = model(clips, keep_layers=2)
    plain = model.model(clips, output_hidden_states=True)
    num_tokens = found.tokens.shape[1]
    assert model.grid(clips, num_tokens) == KINDS[kind][2]
    assert num_tokens == KINDS[kind][2].num_patches
    assert torch.equal(found.tokens, plain.last_hidden_state[:, -num_tokens:])
    for ours, theirs in zip(found.hidden_states, plain.hidden_states[1:], strict=True):
        assert torch.equal(ours, theirs[:, -num_tokens:])


@pytest.mark.parametrize("kind", ["roberta", "vit", "audio-spectrogram-transformer"])
def test_nothing_of_a_hidden_token_reaches_the_student(kind: str) -> None:
    model, clips = encoder(kind), KINDS[kind][1]()
    hidden = torch.zeros(2, KINDS[kind][2].num_patches, dtype=torch.bool)
    hidden[:, 1] = True
    other = clips.clone()
    if kind == "roberta":
        other[:, 1] = 39
    elif kind == "vit":
        other[:, :, :4, 4:8] = 9.0
    else:
        other[:, 8:16, :8] = 9.0  # the first row of mels, the second stretch of time
    assert torch.equal(model(clips, hidden=hidden).tokens, model(other, hidden=hidden).tokens)
    assert not torch.allclose(model(clips).tokens, model(other).tokens)
    assert not torch.allclose(model(clips, hidden=hidden).tokens[:, 0], model(clips).tokens[:, 0])


def test_hidden_frames_of_a_waveform_are_one_vector_to_the_student() -> None:
    model, clips = encoder("wav2vec2"), torch.randn(2, 130)
    everything = torch.ones(2, 12, dtype=torch.bool)
    torch.testing.assert_close(model(clips, hidden=everything).tokens[0], model(2 * clips, hidden=everything).tokens[1])


def test_padded_samples_are_read_as_padded_tokens() -> None:
    model = encoder("wav2vec2")
    assert model.front_end.min_samples == 20
    rest = torch.zeros(2, 0), torch.arange(2), ("one", "two")
    clips, padding = model.front_end.read(Batch(3 + torch.randn(2, 130), [130, 70], *rest))
    torch.testing.assert_close(clips[1, :70].mean(), torch.tensor(0.0), atol=1e-5, rtol=0)
    assert not clips[1, 70:].any()
    assert (~padding).sum(dim=1).tolist() == [12, 6]
    assert model.front_end.read(Batch(torch.randn(2, 130), [130, 130], *rest)).padding is None


def test_what_takes_no_part_does_not_learn() -> None:
    for kind in KINDS:
        model, clips = encoder(kind).train(), KINDS[kind][1]()
        hidden = torch.rand(2, KINDS[kind][2].num_patches) < 0.5
        model(clips, hidden=hidden).tokens.square().sum().backward()
        without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
        assert without == [], kind


def test_the_teacher_follows() -> None:
    student = encoder("vit")
    teacher = HuggingFaceTeacher(student).train()
    assert not any(part.training for part in teacher.modules())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    before = {name: weight.clone() for name, weight in teacher.encoder.named_parameters()}
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1.0)
    teacher.update_ema(student, 0.75)
    for name, weight in teacher.encoder.named_parameters():
        torch.testing.assert_close(weight, before[name] + 0.25)


def folder_with(folder: Path, **settings: Any) -> HuggingFaceConfig:
    """A folder whose code says that it was run; whoever is asked whether it may be, says yes."""
    transformers.ViTConfig(**KINDS["vit"][0]).save_pretrained(folder)
    told = json.loads((folder / "config.json").read_text())
    (folder / "hostile.py").write_text(f"open({str(folder / 'was run')!r}, 'w').close()")
    (folder / "config.json").write_text(json.dumps(told | settings))
    return HuggingFaceConfig(str(folder))


def test_code_that_comes_with_a_model_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    code = {"AutoConfig": "hostile.Config", "AutoModel": "hostile.Model", "AutoModelForCausalLM": "hostile.Model"}
    HuggingFaceEncoder(folder_with(tmp_path, auto_map=code))
    # Types of model whose AutoModel transformers does not have, and types that have models inside.
    inner = {"model_type": "clip_vision_model", "auto_map": code, **SIZE}
    for settings in (
        {"model_type": "vision-encoder-decoder", "encoder": inner, "decoder": {"model_type": "clip_vision_model", **inner}},
        {"model_type": "timm_backbone"},
        {"model_type": "unheard"},
    ):
        with pytest.raises((ValueError, AttributeError, ImportError)):
            HuggingFaceEncoder(folder_with(tmp_path, auto_map=code, **settings))
    assert not (tmp_path / "was run").exists()


@pytest.mark.parametrize("name", ["attn_implementation", "_attn_implementation", "experts_implementation"])
@pytest.mark.parametrize("value", ["kernels-community/flash-attn", {"": "a/b"}, "flash_attention_2"])
def test_kernels_of_others_are_refused(name: str, value: Any, tmp_path: Path) -> None:
    message = rf"got '.*': {name} must be one of eager, sdpa, batched_mm, grouped_mm: others run code of elsewhere, got "
    with pytest.raises(ValueError, match=message):
        folder_with(tmp_path, **{name: value}).resolve()
    with pytest.raises(ValueError, match=message):
        folder_with(tmp_path, **{"vision_config": {name: value}}).resolve()


def test_plain_settings_of_a_folder_and_their_replacements(tmp_path: Path) -> None:
    kept = folder_with(tmp_path, attn_implementation="eager", hidden_act="relu").resolve()
    assert (kept._attn_implementation, kept.hidden_act, kept.hidden_size) == ("eager", "relu", 16)
    assert HuggingFaceConfig(str(tmp_path), {"hidden_act": "gelu"}).resolve().hidden_act == "gelu"
    with pytest.raises(ValueError, match=r"_attn_implementation must be one of eager, .*, got a/b"):
        HuggingFaceConfig(str(tmp_path), {"_attn_implementation": "a/b"}).resolve()
    with pytest.raises(ValueError, match=r"backbone would be looked up on the Hub"):
        folder_with(tmp_path, backbone="someone/model").resolve()
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ValueError, match=r"its config\.json names no model_type"):
        HuggingFaceConfig(str(tmp_path)).resolve()
