"""Any model of transformers pre-trains by data2vec 1.0 from the command line, and goes back to its plain class."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
import soundfile
import torch
import yaml
from made_by_tests import docs_of_the_package, striped_images

from sslam_lightning.__main__ import main
from sslam_lightning.checkpoints import read_weights
from sslam_lightning.data import SyntheticDataset
from sslam_lightning.losses import TeacherTargets
from sslam_lightning.models import HuggingFaceConfig
from sslam_lightning.runtime.configs import config_folder
from sslam_lightning.training import Data2Vec1Module

transformers = pytest.importorskip("transformers")

SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
CONVOLUTIONS = {"conv_dim": [16] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}


def _text(folder: Path) -> dict:
    docs_of_the_package(folder / "texts")
    data = {"root": str(folder / "texts"), "tokenizer": str(folder / "tokenizer.json"), "vocabulary": 400}
    return {
        "data": ("TextDataModule", {**data, "max_tokens": 32, "batch_size": 16}),
        "encoder": {"model": "roberta", "settings": {**SIZE, "vocab_size": 400, "max_position_embeddings": 34}},
        "model": {"targets": {"normalize_layers": ["layer"]}, "head_depth": 2},
    }


def _image(folder: Path) -> dict:
    striped_images(folder / "images", 32)
    settings = {**SIZE, "image_size": 32, "patch_size": 8, "use_absolute_position_embeddings": True}
    return {
        "data": ("ImageFolderDataModule", {"root": str(folder / "images"), "size": 32, "batch_size": 8}),
        "encoder": {"model": "beit", "settings": settings},
        "model": {
            "masking": _mask("BlockMask", mask_ratio=0.6, block_size=2),
            "targets": {"normalize_layers": ["layer"]},
        },
    }


def _waveform(folder: Path) -> dict:
    (folder / "sounds").mkdir()
    for clip in (SyntheticDataset(32, clip_seconds=0.7)[number] for number in range(32)):
        waveform = clip.waveform[: 11000 - 100 * (clip.clip_index % 8)]  # of different lengths
        soundfile.write(folder / "sounds" / f"{clip.clip_index}.wav", waveform.numpy(), 16000)
    settings = {**SIZE, **CONVOLUTIONS, "feat_extract_norm": "layer", "layerdrop": 0.0}
    return {
        "data": ("AudioFolderDataModule", {"root": str(folder / "sounds"), "batch_size": 8}),
        "encoder": {"model": "wav2vec2", "settings": settings},
        "model": {"masking": _mask("SpanMask", span_tokens=5)},
    }


def _spectrogram(folder: Path) -> dict:
    settings = {**SIZE, "max_length": 64, "frequency_stride": 16, "time_stride": 16}
    return {
        "data": ("SyntheticDataModule", {"num_train": 32, "num_val": 0, "clip_seconds": 0.66, "batch_size": 8}),
        "encoder": {"model": "audio-spectrogram-transformer", "settings": settings},
        "model": {"features": {"num_frames": 64}, "masking": _mask("BlockMask", mask_ratio=0.6, block_size=2)},
    }


def _mask(name: str, **settings) -> dict:
    return {"class_path": f"sslam_lightning.masking.{name}", "init_args": settings}


# What it is made of, updates, what the loss may be at most in the end as a share of the beginning, and an input.
KINDS = {
    "text": (_text, 50, 0.6, lambda: torch.randint(5, 400, (2, 20))),
    "image": (_image, 60, 0.6, lambda: torch.randn(2, 3, 32, 32)),
    "waveform": (_waveform, 80, 0.87, lambda: torch.randn(2, 8000)),
    "spectrogram": (_spectrogram, 60, 0.75, lambda: torch.randn(2, 64, 128)),
}


def _recipe(folder: Path, kind: str, **model) -> Path:
    """The settings of a run as a file, as a user would write it."""
    made = KINDS[kind][0](folder)
    name, data = made["data"]
    settings = {
        "targets": {"top_k_layers": 2, "output": "block"},
        "ema": {"decay": 0.9, "end_decay": 0.99, "anneal_steps": 40},
        "optimizer": {"lr": 3e-3, "warmup_steps": 10, "weight_decay": 0.01},
        **made["model"],
        **model,
    }
    settings["targets"] = {"top_k_layers": 2, "output": "block", **settings["targets"]}
    recipe = {
        "data": {"class_path": f"sslam_lightning.data.{name}", "init_args": {"num_workers": 0, **data}},
        "model": {
            "class_path": "sslam_lightning.training.Data2Vec1Module",
            "init_args": {"encoder": made["encoder"], **settings},
        },
        "trainer": {"gradient_clip_val": 4.0, "log_every_n_steps": 1, "default_root_dir": str(folder / "run")},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return folder / "recipe.yaml"


def _fit(recipe: Path, updates: int, *options: str) -> None:
    arguments = ["--config", str(config_folder() / "overlays/trainer/cpu.yaml"), "--config", str(recipe)]
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
    main(["fit", *arguments, *quiet, f"--trainer.max_steps={updates}", "--trainer.log_every_n_steps=1", *options])


def _relative_losses(run: Path) -> list[float]:
    """The error in units of the targets' variance, which moves while the teacher learns."""
    with (run / "logs/version_0/metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["train/loss/regression"]]
    return [float(row["train/loss/regression"]) / float(row["train/target_std"]) ** 2 for row in rows]


@pytest.mark.parametrize("kind", KINDS)
def test_a_short_run_learns_and_its_model_goes_back_to_transformers(kind, tmp_path, capsys):
    _, updates, most, example = KINDS[kind]
    _fit(_recipe(tmp_path, kind), updates)
    losses = _relative_losses(tmp_path / "run")
    assert len(losses) == updates
    first, last = sum(losses[:10]) / 10, sum(losses[-10:]) / 10
    assert last < most * first, f"{last / first:.3f}"

    checkpoint = tmp_path / "run/checkpoints/last.ckpt"
    with pytest.raises(ValueError, match=r"holds a model of Hugging Face transformers: sslam convert --to transformers"):
        read_weights(checkpoint)
    main(["convert", str(checkpoint), str(tmp_path / "plain"), "--to", "transformers"])
    assert "wrote" in capsys.readouterr().out
    sound = {"preprocessor_config.json"} if kind in ("waveform", "spectrogram") else set()
    assert {path.name for path in (tmp_path / "plain").iterdir()} == {"config.json", "model.safetensors", *sound}
    plain, told = transformers.AutoModel.from_pretrained(tmp_path / "plain", output_loading_info=True)
    assert not any(told[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    content = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    for name, weight in plain.state_dict().items():
        assert torch.equal(weight, content[f"student.model.{name}"]), name

    module = Data2Vec1Module.load_from_checkpoint(checkpoint, map_location="cpu", weights_only=True).eval()
    inputs = example()
    with torch.no_grad():
        found, ours = plain.eval()(inputs), module.student.model(inputs)
    assert torch.equal(found.last_hidden_state, ours.last_hidden_state)


def test_a_folder_with_weights_is_where_student_and_teacher_start(tmp_path):
    config = transformers.BeitConfig(**SIZE, image_size=32, patch_size=8)
    torch.manual_seed(3)
    other = transformers.BeitModel(config)
    other.save_pretrained(tmp_path / "beit")
    recipe = _recipe(tmp_path, "image", encoder={"model": str(tmp_path / "beit")})
    _fit(
        recipe,
        1,
        f"--model.init_from={tmp_path / 'beit'}",
        "--model.optimizer.lr=1e-8",
        "--model.optimizer.warmup_steps=0",
    )
    content = torch.load(tmp_path / "run/checkpoints/last.ckpt", map_location="cpu", weights_only=True)
    for part in ("student.model.", "teacher.encoder.model."):
        for name, weight in other.state_dict().items():
            torch.testing.assert_close(content["state_dict"][part + name], weight, rtol=1e-5, atol=1e-6)
    assert content["transformers_config"]["model_type"] == "beit"  # the folder may go


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (
            {"model": "rober"},
            r"must be its own, got 'rober': ",
        ),
        ({"model": "roberta", "settings": {"hiden_size": 3}}, r"got 'roberta': a roberta has no setting hiden_size"),
        (
            {"model": "roberta", "settings": SIZE, "token_module": "embeddings.words"},
            r"a RobertaModel has no part embeddings.words: name the one that embeds its tokens in encoder.token_module",
        ),
    ],
)
def test_what_transformers_does_not_have(encoder, message, tmp_path, capsys):
    recipe = _recipe(tmp_path, "text", encoder=encoder)
    with pytest.raises(SystemExit):
        _fit(recipe, 1)
    assert re.search(message, capsys.readouterr().err)


def test_no_pickle_and_no_code_of_others_is_opened(tmp_path):
    folder = tmp_path / "model"
    transformers.BeitModel(transformers.BeitConfig(**SIZE, image_size=32, patch_size=8)).save_pretrained(folder)
    module = Data2Vec1Module(HuggingFaceConfig(str(folder)), targets=TeacherTargets(2, "block"))
    (folder / "model.safetensors").rename(folder / "elsewhere")
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"cannot be opened as a model in safetensors"):
        module.load_pretrained(str(folder))
    told = json.loads((folder / "config.json").read_text())
    (folder / "hostile.py").write_text("raise SystemExit('code of others was run')")
    told |= {"model_type": "unheard", "auto_map": {"AutoConfig": "hostile.Config", "AutoModel": "hostile.Model"}}
    (folder / "config.json").write_text(json.dumps(told))
    with pytest.raises(ValueError, match=r"must be its own, got"):
        HuggingFaceConfig(str(folder)).resolve()
