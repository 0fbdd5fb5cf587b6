"""README's mask and front-end of your own, and a loss, do what they say: each from its own file and its own overlay."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning import seed_everything

from sslam_lightning.cli.configs import config_folder
from sslam_lightning.cli.trainer import SSLAMCLI
from sslam_lightning.types import Grid

_README = Path(__file__).parents[2] / "README.md"
_TINY = ("pretrain/eat_base_corrected", "model/tiny", "model/tiny_pretrain", "data/synthetic", "trainer/cpu")
_SHRINK = """\
from dataclasses import dataclass

from sslam_lightning.objectives import Objective


@dataclass(frozen=True)
class Shrink(Objective):
    weight: float = 1.0

    def __call__(self, guesses, wanted, targets, mask):
        return self.weight * guesses.clip.square().mean()
"""
_WITH_PIECES = {
    "features": None,
    "encoder": {"front_end": {"class_path": "pieces.PiecesConfig", "init_args": {"samples": 800}}},
    "masking": {"class_path": "sslam_lightning.masking.UniformMask"},
    "decoder": {"dimensions": 1},
}


def _blocks(language: str) -> list[str]:
    return [part.split("```")[0] for part in _README.read_text().split(f"```{language}\n")[1:]]


def _train_once(folder: Path, overlay: Mapping[str, Any]) -> tuple[Any, dict[str, float]]:
    """A module built by the command line, and what its first step logs."""
    (folder / "overlay.yaml").write_text(yaml.safe_dump(overlay))
    configs = [*(config_folder() / f"{name}.yaml" for name in _TINY), folder / "overlay.yaml"]
    cli = SSLAMCLI(args=[argument for path in configs for argument in ("--config", str(path))], run=False)
    seed_everything(0, verbose=False)
    logged: dict[str, float] = {}
    cli.model.log = lambda name, value, **_: logged.update({name: float(value)})
    cli.datamodule.setup("fit")
    cli.model.training_step(next(iter(cli.datamodule.train_dataloader())), 0).backward()
    parts = [value for name, value in logged.items() if name.startswith("train/loss_")]
    assert logged["train/loss"] == pytest.approx(sum(parts), rel=1e-5)
    return cli.model, logged


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Holds the files of a user."""
    mask, front_end = _blocks("py")
    (tmp_path / "gaps.py").write_text(mask)
    (tmp_path / "pieces.py").write_text(front_end)
    (tmp_path / "shrink.py").write_text(_SHRINK)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("sys.argv", ["sslam"])
    return tmp_path


def test_the_examples_are_short() -> None:
    mask, front_end = _blocks("py")
    (overlay,) = _blocks("yaml")
    assert (mask + overlay).count("\n") < 30
    assert front_end.count("\n") < 30


def test_a_mask_of_ones_own(folder: Path) -> None:
    (overlay,) = _blocks("yaml")
    module, _ = _train_once(folder, yaml.safe_load(overlay))
    hidden = module.masking(torch.arange(50), Grid(10, 4)).hidden.view(50, 10, 4)
    assert (hidden.sum(dim=(1, 2)) == 24).all()
    assert (hidden.all(dim=2) == hidden.any(dim=2)).all()  # whole columns
    assert (hidden[:, :, 0].int().diff(dim=1).abs().sum(dim=1) <= 2).all()  # one gap


def test_a_loss_of_ones_own(folder: Path) -> None:
    objective = {"class_path": "shrink.Shrink", "init_args": {"weight": 0.5}}
    _, logged = _train_once(folder, {"model": {"init_args": {"objective": objective}}})
    assert logged["train/loss_objective"] > 0


def test_a_front_end_of_ones_own(folder: Path) -> None:
    module, logged = _train_once(folder, {"model": {"init_args": _WITH_PIECES}})
    front_end = module.student.front_end
    clips = torch.randn(2, 2400)
    assert front_end.grid(clips) == Grid(3, 1)
    torch.testing.assert_close(front_end(clips)[1, 2], front_end.proj(clips[1, 1600:]))
    assert front_end.proj.weight.grad.any()
    assert logged["train/loss_regression"] > 0
