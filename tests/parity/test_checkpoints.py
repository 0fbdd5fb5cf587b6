"""The public trainer's own files give the recorded outputs in every form, with nothing of the public code installed."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from reference_data import case_names

from sslam_lightning import load_classifier, load_encoder
from sslam_lightning.checkpoints import convert, read_weights

PRETRAINED = "checkpoints/fairseq_eat_tiny_pretrained.pt"
FORMS = ("original", "safetensors", "eat_hf", "fairseq")


def _in_every_form(original: Path, folder: Path, part: str | None = None) -> dict[str, Path]:
    """The same model, each form made from the one before."""
    places = {"original": original}
    for last, form in pairwise(FORMS):
        places[form] = convert(places[last], folder / form, form, part if last == "original" else None).target
    return places


def _tokens(encoder, log_mels: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        encoded = encoder(log_mels)
    return torch.cat([encoded.cls[:, None], encoded.tokens], dim=1)


@pytest.mark.parametrize("part", ["student", "teacher"])
@pytest.mark.parametrize("name", case_names("fairseq_*_expected"))
def test_recorded_tokens_in_every_form(name, part, reference, tmp_path):
    arrays, original = reference.arrays(name), reference.file(f"checkpoints/{name.removesuffix('_expected')}.pt")
    log_mels = torch.tensor(arrays["spectrogram"]).reshape(-1, *arrays["spectrogram"].shape[-2:])
    expected = torch.tensor(arrays[f"{part}_tokens"])
    for form, place in _in_every_form(original, tmp_path, part).items():
        tokens = _tokens(load_encoder(place, part if form == "original" else "student"), log_mels)
        torch.testing.assert_close(
            tokens, expected.reshape(tokens.shape), rtol=0, atol=1e-4, msg=lambda m, f=form: f"{f}: {m}"
        )


@pytest.mark.parametrize("name", case_names("eat_tiny_finetune_*"))
def test_recorded_logits_in_every_form(name, reference, tmp_path):
    batches = reference.arrays(f"{name}_batches")
    log_mels = torch.tensor(batches["sources"][0].astype("float32")).squeeze(1)
    expected = torch.tensor(batches["final_logits_on_first_batch"])
    multi_label = "multi_label" in name
    original = reference.file(f"checkpoints/fairseq_{name.replace('_finetune_', '_finetuned_')}.pt")
    for form, place in _in_every_form(original, tmp_path).items():
        with torch.no_grad():
            logits = load_classifier(place)(log_mels)
        assert (logits - expected).abs().max() < 1e-4, form
        weights = read_weights(place)
        assert weights.multi_label == multi_label
        assert weights.class_names == tuple(f"c{number}" for number in range(10))
        assert weights.features["num_frames"] == 256
        assert weights.features["mean"] == (-4.268 if multi_label else -6.627)  # the latter ran as ESC-50
        assert not weights.unused


def test_no_bit_is_lost_on_the_way_back_to_fairseq(reference, tmp_path):
    """Teacher and decoder included. The table of positions is computed: another NumPy may round it otherwise."""
    original = torch.load(reference.file(PRETRAINED), weights_only=True)["model"]
    convert(reference.file(PRETRAINED), tmp_path / "safetensors", "safetensors")
    convert(tmp_path / "safetensors", tmp_path / "back.pt", "fairseq")
    back = torch.load(tmp_path / "back.pt", weights_only=True)["model"]
    for ours, theirs in ((back, original), (back["_ema"], original["_ema"])):
        assert ours.keys() == theirs.keys()
        for name in theirs.keys() - {"_ema"}:
            if name.endswith("positions"):
                torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-6)
            else:
                assert torch.equal(ours[name], theirs[name]), name


def test_nothing_of_the_public_code_is_needed(reference, tmp_path):
    places = _in_every_form(reference.file(PRETRAINED), tmp_path)
    tagger = reference.file("checkpoints/fairseq_eat_tiny_finetuned_multi_label.pt")
    script = f"""
import sys
for name in ("transformers", "fairseq", "omegaconf", "huggingface_hub", "timm", "lightning"):
    sys.modules[name] = None
import torch
from sslam_lightning import load_classifier, load_encoder
log_mels = torch.linspace(-1, 1, 64 * 128).view(1, 64, 128)
results = [load_encoder(place)(log_mels).cls for place in {[str(place) for place in places.values()]!r}]
assert all(torch.equal(result, results[0]) for result in results)
print(load_classifier({str(tagger)!r})(log_mels).shape)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout == "torch.Size([1, 10])\n", done.stderr
