"""From form to form and back: no bit is lost but by name."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_weights import ENCODER, assert_same_bits, finetuned, pretrained

from sslam_lightning.checkpoints import convert, read_weights
from sslam_lightning.checkpoints.write import write_weights

FORMS = ("safetensors", "eat_hf", "fairseq")
LOST = {  # fairseq's read-out has a third of the encoder's width
    "safetensors": (),
    "eat_hf": ("teacher", "decoder_config", "decoder", "reconstruction"),
    "fairseq": ("reconstruction",),
}


def contents(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("last", FORMS)
@pytest.mark.parametrize("first", FORMS)
@pytest.mark.parametrize("make", [pretrained, finetuned])
def test_every_way_there_and_back(tmp_path, make: Any, first: Any, last: Any) -> None:
    original = make()
    write_weights(original, tmp_path / "first", first)
    convert(tmp_path / "first", tmp_path / "last", last)
    lost = {name for form in (first, last) for name in LOST[form]} if make is pretrained else set()
    for name in ("first", "last"):
        kept = read_weights(tmp_path / name)
        assert kept.unused == ()
        assert_same_bits(kept, original, *(LOST[first] if name == "first" and lost else lost))
    convert(tmp_path / "last", tmp_path / "again", first)
    assert_same_bits(read_weights(tmp_path / "again"), original, *lost)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("form", FORMS)
def test_the_precision_is_kept(tmp_path, form: Any, dtype: torch.dtype) -> None:
    whole = finetuned()
    assert whole.head is not None
    original = whole._replace(
        student={name: value.to(dtype) for name, value in whole.student.items()},
        head={name: value.to(dtype) for name, value in whole.head.items()},
    )
    write_weights(original, tmp_path / "target", form)
    assert_same_bits(read_weights(tmp_path / "target"), original)


def test_what_a_form_has_no_place_for_is_listed(tmp_path) -> None:
    write_weights(pretrained(), tmp_path / "whole", "safetensors")
    done = convert(tmp_path / "whole", tmp_path / "hf", "eat_hf")
    assert done.left_out == ("teacher", "decoder", "reconstruction")
    assert convert(tmp_path / "whole", tmp_path / "fairseq.pt", "fairseq").left_out == ("reconstruction",)
    both = pretrained()._replace(head=finetuned().head, pooling="mean")
    assert write_weights(both, tmp_path / "both.pt", "fairseq") == ("teacher", "decoder", "reconstruction")
    (*_, head) = write_weights(both, tmp_path / "pooled", "eat_hf")
    assert head == "head (it pools by mean; this layout's reads the CLS token)"
    assert read_weights(tmp_path / "pooled").head is None


@pytest.mark.parametrize("pooling", ["cls", "mean", "linear_softmax"])
def test_fairseq_knows_every_pooling(tmp_path, pooling: Any) -> None:
    original = finetuned()._replace(pooling=pooling)
    write_weights(original, tmp_path / "a.pt", "fairseq")
    assert_same_bits(read_weights(tmp_path / "a.pt"), original)
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    del content["sslam_lightning"]  # as the public code would have written it
    torch.save(content, tmp_path / "b.pt")
    weights = read_weights(tmp_path / "b.pt")
    assert (weights.pooling, weights.class_names, weights.multi_label) == (pooling, original.class_names, False)
    assert weights.features == original.features


@pytest.mark.parametrize("part", ["student", "teacher"])
def test_one_encoder_of_two(tmp_path, part: Any) -> None:
    original = pretrained()
    write_weights(original, tmp_path / "whole", "safetensors")
    for form in FORMS:
        convert(tmp_path / "whole", tmp_path / form, form, part)
        weights = read_weights(tmp_path / form)
        assert weights.teacher is None
        for name, value in original.part(part).items():
            assert torch.equal(weights.student[name], value), (form, name)


def test_a_part_that_is_not_there(tmp_path) -> None:
    write_weights(finetuned(), tmp_path / "source", "safetensors")
    with pytest.raises(ValueError, match=r"source holds no teacher: .*ask for the part student"):
        convert(tmp_path / "source", tmp_path / "target", part="teacher")
    assert contents(tmp_path) == ["source"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["file", "folder", "dangling link"])
def test_nothing_is_overwritten(tmp_path, form: Any, kind: str) -> None:
    write_weights(finetuned(), tmp_path / "source", "safetensors")
    target = tmp_path / "target"
    if kind == "file":
        target.write_text("precious")
    elif kind == "folder":
        target.mkdir()
    else:
        target.symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError, match=r"target exists already: move it, or name another target"):
        convert(tmp_path / "source", target, form)
    assert contents(tmp_path) == ["source", "target"]
    assert kind != "file" or target.read_text() == "precious"


@pytest.mark.parametrize("form", FORMS)
def test_a_target_is_whole_or_not_there(tmp_path, monkeypatch, form: Any) -> None:
    write_weights(finetuned(), tmp_path / "source", "safetensors")

    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError("the disk is full")

    name = "torch.save" if form == "fairseq" else "sslam_lightning.checkpoints.write.save_file"
    monkeypatch.setattr(name, fail)
    with pytest.raises(OSError, match="the disk is full"):
        convert(tmp_path / "source", tmp_path / "target", form)
    assert contents(tmp_path) == ["source"]


def test_folders_are_made_and_may_be_read_by_others(tmp_path) -> None:
    write_weights(finetuned(), tmp_path / "new" / "folder" / "model", "safetensors")
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new" / "folder" / "model").iterdir()}
    assert len(modes) == 1


def test_an_unknown_form(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"converted to safetensors, eat_hf, fairseq, transformers, got 'onnx'"):
        convert(tmp_path / "source", tmp_path / "target", "onnx")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("other", "form", "message"),
    [
        ({"norm": "pre_data2vec2"}, "eat_hf", "knows norm 'post', not 'pre_data2vec2'"),
        ({"norm": "pre"}, "fairseq", "fairseq's models have no norm 'pre'"),
        ({"prenet_depth": 1}, "eat_hf", "the Hugging Face layout has no prenet, the encoder has one"),
    ],
)
def test_an_encoder_that_a_form_cannot_hold(tmp_path, other: dict, form: Any, message: str) -> None:
    write_weights(pretrained(replace(ENCODER, **other)), tmp_path / "source", "safetensors")
    with pytest.raises(ValueError, match=message):
        convert(tmp_path / "source", tmp_path / "target", form)
    assert contents(tmp_path) == ["source"]


@pytest.mark.parametrize("other", [{"norm": "pre_data2vec2"}, {"prenet_depth": 2}])
def test_fairseq_holds_prenorm_and_prenet(tmp_path, other: dict) -> None:
    original = pretrained(replace(ENCODER, **other))
    write_weights(original, tmp_path / "a.pt", "fairseq")
    assert_same_bits(read_weights(tmp_path / "a.pt"), original, "reconstruction")


def test_a_fairseq_file_is_plain_data_with_the_public_names(tmp_path) -> None:
    write_weights(pretrained(), tmp_path / "a.pt", "fairseq")
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    assert content["cfg"]["model"]["num_heads"] == 2
    image = content["cfg"]["model"]["modalities"]["image"]
    assert image["decoder"] | {"decoder_dim": 24, "decoder_kernel": 2, "decoder_groups": 4} == image["decoder"]
    assert image["mask_noise_std"] == 0.02
    assert content["model"]["modality_encoders.IMAGE.fixed_positional_encoder.positions"].shape == (1, 768 * 8, 16)
    assert "modality_encoders.IMAGE.decoder.blocks.1.0.weight" in content["model"]
    assert "blocks.1.mlp.fc2.bias" in content["model"]["_ema"]
    write_weights(finetuned(), tmp_path / "b.pt", "fairseq")
    content = torch.load(tmp_path / "b.pt", weights_only=True)
    assert {"model.blocks.0.attn.qkv.weight", "fc_norm.weight", "head.bias"} < content["model"].keys()
    assert content["cfg"]["model"]["pretrained_model_args"]["model"]["num_heads"] == 2
    assert content["task_state"] == {"labels": {"dog": "0", "rain, heavy": "1", "crow": "2"}}


def test_the_shared_form_is_safetensors_and_json(tmp_path) -> None:
    write_weights(pretrained(), tmp_path / "a", "safetensors")
    assert contents(tmp_path / "a") == ["README.md", "config.json", "model.safetensors"]
    names = load_file(tmp_path / "a" / "model.safetensors").keys()
    assert {name.partition(".")[0] for name in names} == {"student", "teacher", "decoder", "reconstruction"}
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert config["features"] == pretrained().features
    assert config["decoder"]["init_args"]["noise_std"] == 0.02


def test_a_shared_form_of_a_later_release(tmp_path) -> None:
    write_weights(pretrained(), tmp_path / "a", "safetensors")
    path = tmp_path / "a" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "mood": "good"}))
    assert read_weights(tmp_path / "a").unused == ("config.json: mood",)
    path.write_text(json.dumps({**config, "version": 2}))
    with pytest.raises(ValueError, match="version 2 of its form, this release knows 1: install a newer one"):
        read_weights(tmp_path / "a")


# The card --------------------------------------------------------------------------------------------------------


def test_the_card_says_what_the_model_is(tmp_path) -> None:
    write_weights(pretrained(), tmp_path / "whole", "safetensors")
    convert(tmp_path / "whole", tmp_path / "model", "eat_hf")
    card = (tmp_path / "model" / "README.md").read_text()
    front, text = card.removeprefix("---\n").split("---\n", 1)
    assert "pipeline_tag: feature-extraction" in front.splitlines()
    assert 'encoder = sslam_lightning.load_encoder("model")' in text
    assert "- Parts: student\n" in text  # what the folder holds, not what its source held
    assert "mean -6.627" in text
    assert "- Converted from: whole" in text
    assert str(tmp_path) not in card
    write_weights(finetuned(), tmp_path / "classifier", "safetensors")
    card = (tmp_path / "classifier" / "README.md").read_text()
    assert "pipeline_tag: audio-classification" in card
    assert "- Classes: 3, exactly one of them in a clip (dog, rain, heavy, crow)" in card
