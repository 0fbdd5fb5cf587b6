"""The READMEs' mask, loss, front end and data set do what they say: each from its file and its overlay alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from lightning import seed_everything
from readmes import TEXT, files

from sslam_lightning.__main__ import main
from sslam_lightning.cli.fit.trainer import SSLAMCLI
from sslam_lightning.runtime.configs import config_folder
from sslam_lightning.types import Grid

_FILES = files(TEXT)
_NAMES = ("gaps", "shrink", "pieces", "birds")
_TINY = (
    "pretrain/eat_base",
    "overlays/sizes/tiny",
    "overlays/data/synthetic",
    "overlays/trainer/cpu",
)


def _train_once(*arguments: str) -> tuple[Any, dict[str, float]]:
    """A module built by the command line, and what its first step logs."""
    configs = [argument for name in _TINY for argument in ("--config", str(config_folder() / f"{name}.yaml"))]
    cli = SSLAMCLI(args=[*configs, *arguments], run=False)
    seed_everything(0, verbose=False)
    logged: dict[str, float] = {}
    cli.model.log = lambda name, value, **_: logged.update({name: float(value)})
    cli.datamodule.setup("fit")
    cli.model.training_step(next(iter(cli.datamodule.train_dataloader())), 0).backward()
    parts = [value for name, value in logged.items() if name.startswith("train/loss/")]
    assert logged["train/loss"] == pytest.approx(sum(parts), rel=1e-5)
    return cli.model, logged


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Holds the files of a user."""
    for name, content in _FILES.items():
        (tmp_path / name).write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["sslam"])
    return tmp_path


def test_each_is_one_short_file_and_one_config() -> None:
    assert set(_FILES) == {f"{name}.{kind}" for name in _NAMES for kind in ("py", "yaml")}
    for name in _NAMES:
        lines = [_FILES[f"{name}.{kind}"].count("\n") for kind in ("py", "yaml")]
        assert lines[0] < 30
        assert sum(lines) < (40 if name == "pieces" else 30)


def test_a_mask_of_ones_own(folder: Path) -> None:
    module, _ = _train_once("--config", "gaps.yaml")
    hidden = module.masking(torch.arange(50), Grid(10, 4)).hidden.view(50, 10, 4)
    assert (hidden.sum(dim=(1, 2)) == 24).all()
    assert (hidden.all(dim=2) == hidden.any(dim=2)).all()  # whole columns
    assert (hidden[:, :, 0].int().diff(dim=1).abs().sum(dim=1) <= 2).all()  # one gap


def test_a_loss_of_ones_own(folder: Path) -> None:
    _, logged = _train_once("--config", "shrink.yaml")
    assert logged["train/loss/extra_loss"] > 0


def test_a_front_end_of_ones_own(folder: Path) -> None:
    module, logged = _train_once("--config", "pieces.yaml")
    front_end = module.student.front_end
    clips = torch.randn(2, 2400)
    assert front_end.grid(clips) == Grid(3, 1)
    torch.testing.assert_close(front_end(clips)[1, 2], front_end.proj(clips[1, 1600:]))
    assert front_end.proj.weight.grad.any()
    assert logged["train/loss/regression"] > 0


def test_a_data_set_of_ones_own(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two species, told apart by their pitch even with random weights; and they can be trained on."""
    noise = np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 4)):
        for species, pitch_hz in (("bittern", 200), ("wren", 5000)):
            place = folder / "data" / "birds" / split / species
            place.mkdir(parents=True)
            for number in range(count):
                wave = np.sin(2 * np.pi * (pitch_hz + 20 * number) * np.arange(19200) / 16000)
                soundfile.write(place / f"{number}.wav", 0.3 * wave + 0.02 * noise.normal(size=19200), 16000)
    tiny = config_folder() / "overlays" / "sizes" / "tiny.yaml"
    main(["evaluate", "--suite", "birds.yaml", f"--model={tiny}", "--protocols=knn", "--features.num_frames=112"])
    assert "birds, knn, fold all, seed 0: accuracy last 100.0" in capsys.readouterr().out
    module, _ = _train_once("--data=birds.BirdsDataModule", "--data.root=data/birds", "--data.batch_size=4")
    assert module.student.cls_token.grad.any()
