"""Checkpoints of the whole family through the commands: convert, fit, tag and embed, whatever the encoder reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import soundfile
import torch
import yaml
from made_by_tests import striped_images
from test_family import METHODS
from tiny import trainer

import sslam_lightning
from sslam_lightning.__main__ import main
from sslam_lightning.checkpoints import load_classifier, read_weights
from sslam_lightning.checkpoints.settings import as_plain
from sslam_lightning.data import SyntheticDataset
from sslam_lightning.runtime.configs import config_folder
from sslam_lightning.training.run.hparams import plain


def _sounds(folder: Path) -> list[Path]:
    folder.mkdir()
    for number, seconds in enumerate((0.7, 1.6, 0.9)):
        clip = SyntheticDataset(1, clip_seconds=seconds)[0]
        soundfile.write(folder / f"{number}.wav", clip.waveform.numpy(), 16000)
    return sorted(folder.glob("*.wav"))


def _images(folder: Path) -> list[Path]:
    striped_images(folder, 3)
    return sorted(folder.glob("*.png"))


def _texts(folder: Path) -> list[Path]:
    folder.mkdir()
    for number, words in enumerate((3, 90, 20)):
        (folder / f"{number}.txt").write_text("the encoder of a mask " * words)
    return sorted(folder.glob("*.txt"))


def _synthetic(folder: Path) -> dict:
    settings = {"num_train": 8, "num_val": 0, "clip_seconds": 0.66, "num_classes": 4}
    return {"class_path": "sslam_lightning.data.SyntheticDataModule", "init_args": settings}


def _image_classes(folder: Path) -> dict:
    for name in ("coarse", "fine"):
        striped_images(folder / "labeled" / name, 4)
    settings = {"root": str(folder / "labeled"), "size": 32, "labeled": True}
    return {"class_path": "sslam_lightning.data.ImageFolderDataModule", "init_args": settings}


def _text_classes(folder: Path) -> dict:
    lines = [f"{'good' if number % 2 else 'bad'}\tthe mask hides patch {number}" for number in range(8)]
    (folder / "labeled.tsv").write_text("\n".join(lines) + "\n")
    settings = {"root": str(folder / "labeled.tsv"), "labeled": True, "max_tokens": 32}
    settings["tokenizer"] = str(folder / "tokenizer.json")
    return {"class_path": "sslam_lightning.data.TextDataModule", "init_args": settings}


class Case(NamedTuple):
    """What a method's model reads, and the shape of its patches' embeddings."""

    method: str
    files: Callable[[Path], list[Path]]
    labeled: Callable[[Path], dict]
    options: tuple[str, ...]  # of tag and embed
    patches: tuple[int, ...]  # of a frame
    frames: list[int]  # of each file
    decoder: bool = False
    cls_token: bool = False


CASES = {
    "waveform": Case("waveform", _sounds, _synthetic, (), (1,), [34, 79, 44]),
    "image": Case("image", _images, _image_classes, ("--image_size", "32"), (4,), [4, 4, 4]),
    "text": Case("text", _texts, _text_classes, ("--tokenizer", "tokenizer.json"), (1,), []),
    "mae-ast patches": Case("mae-ast, patches, random", _sounds, _synthetic, (), (8,), [5, 10, 6], decoder=True),
    "mae-ast chunks": Case("mae-ast, patches, chunks", _sounds, _synthetic, (), (8,), [5, 10, 6]),
    "bat": Case("bat", _sounds, _synthetic, (), (8,), [5, 11, 6], cls_token=True),
    "sslam on bat": Case("sslam on bat", _sounds, _synthetic, (), (8,), [5, 11, 6], cls_token=True),
    "mae-ast frames": Case("mae-ast, frames, spans", _sounds, _synthetic, (), (1,), [34, 79, 44]),
}


def _pretrained(case: Case, folder: Path) -> Path:
    torch.manual_seed(1)
    module, data = METHODS[case.method][0](folder)
    runner = trainer(folder / "pretraining", max_steps=2)
    runner.fit(module, data)
    runner.save_checkpoint(folder / "pretrained.ckpt")
    return folder / "pretrained.ckpt"


def _finetune(case: Case, folder: Path, checkpoint: Path, name: str, *options: str, **settings) -> Path:
    """Two updates from the command line; the recipe names the encoder that the checkpoint tells."""
    weights = read_weights(checkpoint)
    encoder = as_plain(weights.encoder)
    settings = {
        "encoder": encoder,
        "features": weights.features and dict(weights.features),
        "pooling": "mean",
        "roll_and_gain": False,
        **settings,
    }
    model = {"class_path": "sslam_lightning.FinetuneModule", "init_args": {**settings, "init_from": str(checkpoint)}}
    data = case.labeled(folder)
    data["init_args"] |= {"batch_size": 4, "num_workers": 0}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump({"model": plain(model), "data": data}))
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--trainer.max_steps=2"]
    configs = ["--config", str(config_folder() / "overlays/trainer/cpu.yaml"), "--config", str(folder / f"{name}.yaml")]
    main(["fit", *configs, *quiet, f"--trainer.default_root_dir={folder / name}", *options])
    return folder / name / "checkpoints/last.ckpt"


def _refused(capsys, told: str, command: str, *options: str) -> None:
    """Settings are used or refused: one line, and nothing is written."""
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main([command, "files", "--model", "shared", "--out", "refused.npz", *options])
    assert told in capsys.readouterr().err
    assert not list(Path().glob("refused*"))


@pytest.mark.parametrize("name", CASES)
def test_a_checkpoint_opens_fine_tunes_tags_and_embeds(name, tmp_path, capsys, monkeypatch):
    case = CASES[name]
    checkpoint = _pretrained(case, tmp_path)
    monkeypatch.chdir(tmp_path)
    main(["convert", str(checkpoint), "shared"])
    card = Path("shared/README.md").read_text()
    files = [str(path) for path in case.files(Path("files"))]

    for level in ("clip", "patch"):
        main(["embed", "files", "--model", "shared", "--level", level, "--out", f"{level}.npz", *case.options])
    main(["embed", "files", "--model", "shared", "--pool", "mean", "--out", "mean.npz", *case.options])
    clips, patches, means = np.load("clip.npz"), np.load("patch.npz"), np.load("mean.npz")
    assert list(clips["file"]) == files
    assert clips["embedding"].shape == (3, 32)
    assert patches["embedding"].shape == (patches["num_frames"].sum(), *case.patches, 32)
    if case.frames:
        assert patches["num_frames"].tolist() == case.frames
    for row, of_one in enumerate(np.split(patches["embedding"], np.cumsum(patches["num_frames"])[:-1])):
        np.testing.assert_allclose(of_one.mean(axis=(0, 1)), means["embedding"][row], rtol=1e-4, atol=1e-5)  # R33
    if not read_weights("shared").encoder.cls_token:  # the mean is all that there is
        np.testing.assert_array_equal(clips["embedding"], means["embedding"])
        _refused(capsys, "pool cannot be cls: this model has no CLS token", "embed", "--pool", "cls", *case.options)
    if name in ("image", "text"):
        reads = {"image": "images", "text": "text"}[name]
        for option, value in {"padding": "masked", "features": "{mean: 1.0}"}.items():
            told = f"shared reads {reads}, and {option} is about sound: leave {option} out"
            _refused(capsys, told, "embed", f"--{option}", value, *case.options)
    if name == "waveform":
        told = "padding cannot be trained: this model has no trained length, it reads waveforms; leave padding out"
        _refused(capsys, told, "embed", "--padding", "trained")
    main(["embed", files[0], "--model", "shared", "--out", "alone.npz", *case.options])
    np.testing.assert_allclose(np.load("alone.npz")["embedding"][0], clips["embedding"][0], rtol=1e-4, atol=1e-5)

    if name in ("image", "text"):
        assert "seconds" not in clips
        assert f"# {name.capitalize()} encoder" in card
        with pytest.raises(SystemExit):
            main(["embed", "files", "--model", "shared", "--level", "frame", "--out", "frame.npz", *case.options])
        assert "has no frames: set the level to clip or patch" in capsys.readouterr().err
        with pytest.raises(ValueError, match=r"shared reads (images|text), not sound"):
            sslam_lightning.from_pretrained("shared")
    else:
        hop_seconds = 0.16 if case.patches == (8,) else 0.02
        assert patches["time_seconds"][1] - patches["time_seconds"][0] == pytest.approx(hop_seconds)
        assert "# Audio encoder" in card
        if not case.cls_token:
            with pytest.raises(SystemExit):
                main(["export", "model.onnx", "--model", "shared"])
            assert "export takes log-mel patches with a CLS token" in capsys.readouterr().err

    tuned = _finetune(case, tmp_path, tmp_path / "shared", "tuned")
    capsys.readouterr()
    main(["tag", files[0], "--model", str(tuned), "--json", *case.options])
    (told,) = map(json.loads, capsys.readouterr().out.strip().splitlines())
    assert len(told["tags"]) == load_classifier(tuned).head.linear.out_features
    if case.decoder:
        _with_the_decoder(case, tmp_path, files[0], capsys)


def _with_the_decoder(case: Case, folder: Path, file: str, capsys) -> None:
    """Fine-tuned behind its decoder, frozen or not."""
    before = read_weights(folder / "shared")
    decoder = plain(before.decoder_config)
    for frozen in (False, True):
        name = f"decoder_{frozen}"
        tuned = _finetune(case, folder, folder / "shared", name, decoder=decoder, frozen_encoder=frozen)
        main(["convert", str(tuned), f"{name}_shared"])
        after = read_weights(folder / f"{name}_shared")
        assert after.head_on == "decoder"
        for part in ("student", "decoder"):
            one, other = getattr(before, part), getattr(after, part)
            assert all(torch.equal(weight, other[key]) for key, weight in one.items()) is frozen, part
        capsys.readouterr()
        main(["tag", file, "--model", f"{name}_shared", "--json", "--top", "1"])
        assert json.loads(capsys.readouterr().out)["tags"]
        classifier = load_classifier(folder / f"{name}_shared")
        log_mels = torch.randn(2, 64, 128)
        through = classifier.decoder.refine(classifier.decoder.input_proj(classifier.encoder(log_mels).tokens))
        expected = classifier.head.linear(classifier.head.norm(through.mean(dim=1)))
        torch.testing.assert_close(classifier(log_mels), expected)
