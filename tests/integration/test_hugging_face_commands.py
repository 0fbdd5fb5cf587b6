"""What data2vec 1.0 makes of a model of transformers through the commands: embed, fit, test, tag, evaluate, convert."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml
from made_by_tests import striped_images
from test_hugging_face_encoders import SIZE, _fit, _recipe

import sslam_lightning
from sslam_lightning.__main__ import main
from sslam_lightning.checkpoints import load_classifier, load_encoder
from sslam_lightning.data import SyntheticDataset
from sslam_lightning.features import LogMels

transformers = pytest.importorskip("transformers")


def _sounds(folder: Path) -> list[str]:
    folder.mkdir()
    for number, seconds in enumerate((0.3, 0.66, 1.6)):
        soundfile.write(folder / f"{number}.wav", SyntheticDataset(1, clip_seconds=seconds)[0].waveform.numpy(), 16000)
    return [str(path) for path in sorted(folder.iterdir())]


def _embed(files: str, model: str, *options: str) -> Any:
    out = Path(f"{len(list(Path().glob('*.npz')))}.npz")
    main(["embed", files, "--model", model, "--out", str(out), *options])
    return np.load(out)


def _finetune(name: str, data: dict[str, Any], *options: str, **model: Any) -> str:
    """Two updates; the checkpoint that they leave."""
    optimizer = {"lr": 1e-3, "layer_decay": 1.0 if model.get("frozen_encoder") else 0.65}
    settings = {"roll_and_gain": False, "pooling": "mean", "optimizer": optimizer, **model}
    data["init_args"] |= {"batch_size": 4, "num_workers": 0}
    recipe = {"model": {"class_path": "sslam_lightning.FinetuneModule", "init_args": settings}, "data": data}
    Path(f"{name}.yaml").write_text(yaml.safe_dump(recipe))
    _fit(Path(f"{name}.yaml"), 2, f"--trainer.default_root_dir={name}", *options)
    return f"{name}/checkpoints/last.ckpt"


def _labeled_sounds() -> dict[str, Any]:
    settings = {"num_train": 8, "num_val": 4, "clip_seconds": 0.66, "num_classes": 4}
    return {"class_path": "sslam_lightning.data.SyntheticDataModule", "init_args": settings}


def _refused(command: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit):
        main(command)
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


@pytest.fixture
def pretrained(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, dict[str, Any]]:
    """A checkpoint of a few updates, and the encoder's part of its recipe."""
    recipe = _recipe(tmp_path, request.param)
    _fit(recipe, 3)
    monkeypatch.chdir(tmp_path)
    return "run/checkpoints/last.ckpt", yaml.safe_load(recipe.read_text())["model"]["init_args"]["encoder"]


@pytest.mark.parametrize("pretrained", ["spectrogram"], indirect=True)
def test_an_ast_embeds_fine_tunes_tags_and_is_judged(pretrained, capsys, monkeypatch):
    checkpoint, encoder = pretrained
    lines: list[str] = []
    monkeypatch.setattr("sslam_lightning.training.load_pretrained.rank_zero_info", lines.append)
    files = _sounds(Path("files"))
    clips, frames, patches = (_embed("files", checkpoint, "--level", level) for level in ("clip", "frame", "patch"))
    assert list(clips["file"]) == files
    assert patches["num_frames"].tolist() == [2, 4, 10]
    assert patches["embedding"].shape == (16, 8, 32)
    np.testing.assert_allclose(frames["embedding"], patches["embedding"].mean(axis=1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(patches["time_seconds"][:2], [0.0875, 0.2475])
    for row, of_one in enumerate(np.split(patches["embedding"], [2, 6])[:2]):  # of one window
        np.testing.assert_allclose(of_one.mean(axis=(0, 1)), clips["embedding"][row], rtol=1e-4, atol=1e-5)
    alone = _embed(files[0], checkpoint)["embedding"]
    np.testing.assert_allclose(alone[0], clips["embedding"][0], rtol=1e-4, atol=1e-5)

    # The middle one fills the model: the plain model's tokens of the same log-mels, which it numbers mel by mel.
    main(["convert", checkpoint, "plain", "--to", "transformers"])
    plain = transformers.AutoModel.from_pretrained("plain").eval()
    waveform = torch.from_numpy(soundfile.read(files[1], dtype="float32")[0])[None]
    with torch.no_grad():
        told = plain(LogMels(num_frames=64)(waveform, torch.tensor([waveform.shape[1]])), output_hidden_states=True)
    expected = told.last_hidden_state[0, 2:].reshape(8, 4, 32).transpose(0, 1)
    np.testing.assert_allclose(patches["embedding"][2:6], expected, rtol=1e-4, atol=1e-5)
    of_folder = _embed("files", "plain", "--layer", "all")["embedding"]  # AudioSet's mean and std, as the recipe's
    assert of_folder.shape == (3, 2, 32)
    np.testing.assert_allclose(of_folder[:, 1], clips["embedding"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(of_folder[1, 0], told.hidden_states[1][0, 2:].mean(dim=0), rtol=1e-4, atol=1e-5)
    assert not np.allclose(_embed("files", checkpoint, "--part", "teacher")["embedding"], clips["embedding"], atol=1e-6)
    found = sslam_lightning.from_pretrained(checkpoint)(waveform[0], 16000)
    np.testing.assert_allclose(found.clip, clips["embedding"][1], rtol=1e-4, atol=1e-5)

    tuned = _finetune("tuned", _labeled_sounds(), hugging_face=encoder, features={"num_frames": 64}, init_from=checkpoint)
    main(["test", "--config", "tuned/config.yaml", f"--ckpt_path={tuned}"])
    assert "test/mAP" in capsys.readouterr().out
    (line,) = lines
    assert line.startswith("run/checkpoints/last.ckpt: took student; left teacher, ")
    assert line.endswith("; starts fresh head for 4 classes")
    main(["tag", files[2], "--model", tuned, "--json"])
    tags = json.loads(capsys.readouterr().out)
    assert len(tags["tags"]) == 4
    classifier, log_mels = load_classifier(tuned), torch.randn(2, 64, 128)
    by_hand = classifier.head.linear(classifier.head.norm(classifier.encoder(log_mels).tokens.mean(dim=1)))
    torch.testing.assert_close(classifier(log_mels), by_hand)

    hugging_face = {"model": "plain"}
    settings = {"features": {"num_frames": 64}, "init_from": "plain", "frozen_encoder": True}
    frozen = _finetune("frozen", _labeled_sounds(), hugging_face=hugging_face, **settings)
    after = load_encoder(frozen).state_dict()
    assert all(torch.equal(weight, after[f"model.{name}"]) for name, weight in plain.state_dict().items())
    main(["convert", frozen, "frozen_plain", "--to", "transformers"])
    assert "left out, the form transformers has no place for it: head" in capsys.readouterr().out

    suite = {
        "name": "sounds",
        "metric": "mAP",
        "data": _labeled_sounds(),
        "share_clips": False,
        "protocols": {
            "knn": {"init_args": {"neighbors": [1]}},
            "linear": {"init_args": {"epochs": 1, "learning_rates": [0.1]}},
            "finetune": {"init_args": {"updates": 1, "evaluations": 1, "batch_size": 4}},
        },
    }
    suite["data"]["init_args"]["num_workers"] = 0
    Path("suite.yaml").write_text(yaml.safe_dump(suite))
    options = ["--model", checkpoint, "--name", "ast", "--out", "judged", "--protocols", "knn,linear,finetune"]
    main(["evaluate", "--suite", "suite.yaml", *options])
    runs = json.loads(Path("judged/results.json").read_text())
    assert {run["protocol"]: run["failed"] for run in runs} == dict.fromkeys(("knn", "linear", "finetune"))

    capsys.readouterr()
    for command, message in (
        (
            ["embed", "files", "--model", checkpoint, "--out", "x.npz", "--window_seconds", "1"],
            "a window has at most 0.64 s",
        ),
        (["export", "x.onnx", "--model", checkpoint], "export takes log-mel patches with a CLS token"),
        (["convert", checkpoint, "x"], "holds a model of Hugging Face transformers: sslam convert --to transformers"),
        (["tag", files[0], "--model", checkpoint], "the model has no classification head"),
        (["plan", "--config", "tuned.yaml"], "this configuration has a model of transformers"),
    ):
        assert message in _refused(command, capsys)


@pytest.mark.parametrize("pretrained", ["waveform"], indirect=True)
def test_a_wav2vec2_embeds_whatever_lies_beside_a_clip(pretrained, capsys):
    checkpoint, encoder = pretrained
    files = _sounds(Path("files"))
    clips, frames = (_embed("files", checkpoint, "--level", level) for level in ("clip", "frame"))
    assert frames["num_frames"].tolist() == [14, 32, 79]
    np.testing.assert_allclose(np.diff(frames["time_seconds"][:3]), 0.02)
    for row, file in enumerate(files):
        np.testing.assert_allclose(_embed(file, checkpoint)["embedding"][0], clips["embedding"][row], rtol=1e-4, atol=1e-5)
    tuned = _finetune("tuned", _labeled_sounds(), hugging_face=encoder, features=None, init_from=checkpoint)
    capsys.readouterr()
    main(["tag", files[0], "--model", tuned, "--json"])
    assert len(json.loads(capsys.readouterr().out)["tags"]) == 4


@pytest.mark.parametrize("pretrained", ["text"], indirect=True)
def test_a_roberta_embeds_and_fine_tunes(pretrained, capsys):
    checkpoint, encoder = pretrained
    Path("files").mkdir()
    for number, words in enumerate((1, 9, 3)):
        Path(f"files/{number}.txt").write_text("the encoder of a mask " * words)
    options = ("--tokenizer", "tokenizer.json")
    clips, tokens = (_embed("files", checkpoint, "--level", level, *options) for level in ("clip", "patch"))
    assert tokens["embedding"].shape == (tokens["num_frames"].sum(), 1, 32)
    first = tokens["num_frames"][0]
    np.testing.assert_allclose(tokens["embedding"][:first].mean(axis=(0, 1)), clips["embedding"][0], rtol=1e-4, atol=1e-5)
    alone = _embed("files/0.txt", checkpoint, *options)["embedding"]
    np.testing.assert_allclose(alone[0], clips["embedding"][0], rtol=1e-4, atol=1e-5)

    Path("labeled.tsv").write_text("".join(f"{['even', 'odd'][n % 2]}\tthe mask hides {n}\n" for n in range(8)))
    settings = {"root": "labeled.tsv", "labeled": True, "tokenizer": "tokenizer.json", "max_tokens": 32}
    data = {"class_path": "sslam_lightning.data.TextDataModule", "init_args": settings}
    tuned = _finetune("tuned", data, hugging_face=encoder, features=None, init_from=checkpoint)
    capsys.readouterr()
    main(["tag", "files/1.txt", "--model", tuned, "--json", *options])
    assert {tag["class"] for tag in json.loads(capsys.readouterr().out)["tags"]} == {"even", "odd"}


def test_a_beit_of_others_embeds_by_rows_and_columns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    settings = {**SIZE, "image_size": 32, "patch_size": 8, "use_absolute_position_embeddings": True}
    model = transformers.BeitForImageClassification(transformers.BeitConfig(**settings)).eval()
    model.save_pretrained("beit")  # with a head, which is left
    striped_images(Path("files"), 2)
    patches = _embed("files", "beit", "--level", "patch")["embedding"]
    assert patches.shape == (8, 4, 32)
    content = sslam_lightning.inference.load_model("beit").read_windows(Path("files/1.png"), None)
    with torch.no_grad():
        expected = model.beit(next(content).content).last_hidden_state[0, 1:].reshape(4, 4, 32)
    np.testing.assert_allclose(patches[4:], expected, rtol=1e-4, atol=1e-5)
