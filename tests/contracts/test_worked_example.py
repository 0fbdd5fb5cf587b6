"""README's mask of your own does what it says, from its own file and its own overlay."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml
from lightning import seed_everything

from sslam_lightning.cli.configs import config_folder
from sslam_lightning.cli.trainer import SSLAMCLI
from sslam_lightning.objectives import Objective
from sslam_lightning.types import Grid

_README = Path(__file__).parents[2] / "README.md"
_TINY = ("pretrain/eat_base_corrected", "model/tiny", "model/tiny_pretrain", "data/synthetic", "trainer/cpu")


@dataclass(frozen=True)
class Shrink(Objective):
    """The size of the clip tokens."""

    weight: float = 1.0

    def __call__(self, guesses, wanted, targets, mask):
        return self.weight * guesses.clip.square().mean()


def _block(language: str) -> str:
    (found,) = [part.split("```")[0] for part in _README.read_text().split(f"```{language}\n")[1:]]
    return found


@pytest.fixture
def in_its_own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "gaps.py").write_text(_block("py"))
    (tmp_path / "gaps.yaml").write_text(_block("yaml"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("sys.argv", ["sslam"])
    return tmp_path


def test_the_example_is_short_and_trains(in_its_own_file: Path) -> None:
    assert (_block("py") + _block("yaml")).count("\n") < 30
    objective = {"class_path": f"{__name__}.Shrink", "init_args": {"weight": 0.5}}
    (in_its_own_file / "shrink.yaml").write_text(yaml.safe_dump({"model": {"init_args": {"objective": objective}}}))
    configs = [config_folder() / f"{name}.yaml" for name in _TINY]
    configs += [in_its_own_file / "gaps.yaml", in_its_own_file / "shrink.yaml"]
    arguments = [argument for path in configs for argument in ("--config", str(path))]
    cli = SSLAMCLI(args=arguments, run=False)
    module = cli.model
    seed_everything(0, verbose=False)
    hidden = module.masking(torch.arange(50), Grid(10, 4)).hidden.view(50, 10, 4)
    assert (hidden.sum(dim=(1, 2)) == 24).all()
    assert (hidden.all(dim=2) == hidden.any(dim=2)).all()  # whole columns
    assert (hidden[:, :, 0].int().diff(dim=1).abs().sum(dim=1) <= 2).all()  # one gap
    logged = {}
    module.log = lambda name, value, **_: logged.update({name: float(value)})
    cli.datamodule.setup("fit")
    module.training_step(next(iter(cli.datamodule.train_dataloader())), 0).backward()
    assert logged["train/loss_objective"] > 0
    parts = [value for name, value in logged.items() if name.startswith("train/loss_")]
    assert logged["train/loss"] == pytest.approx(sum(parts), rel=1e-5)
