"""What a machine does to a run is said in one line, and nothing that was there before is lost."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from test_bad_input import RECIPE, _one_line

from sslam_lightning.__main__ import main

MOST_BYTES = 40_000  # less than a checkpoint has, more than a log


class FullDisk(Callback):
    """From the second epoch on no file may grow beyond some size, as on a disk that is full."""

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch == 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (MOST_BYTES, resource.RLIM_INFINITY))


class NoMemory(Callback):
    """Asks for more memory than there is, as a step too large does."""

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Any) -> None:
        torch.empty(2**50)


@pytest.fixture
def complaint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs ``sslam fit``, which has to fail, and returns its one line."""
    (tmp_path / "recipe.yaml").write_text(RECIPE)

    def run(*options: Any) -> str:
        options = ("--config", tmp_path / "recipe.yaml", "--trainer.default_root_dir", tmp_path / "run", *options)
        with pytest.raises(SystemExit) as left:
            main(["fit", *map(str, options)])
        return _one_line(capsys.readouterr().err, left.value.code)

    return run


@pytest.fixture
def _small_files_again() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("_small_files_again")
def test_a_full_disk_leaves_the_checkpoints_before_it_whole(complaint, tmp_path):
    line = complaint(f"--trainer.callbacks+={__name__}.FullDisk", "--trainer.max_epochs", 3)
    assert line == (
        f"{tmp_path}/run takes no more (File too large): the checkpoints there are intact. Make room, then resume with "
        f"--ckpt_path={tmp_path}/run/checkpoints/last.ckpt"
    )
    kept = sorted((tmp_path / "run" / "checkpoints").glob("*.ckpt"))
    assert [path.name for path in kept] == ["epoch=0-step=2.ckpt", "last.ckpt"]
    for path in kept:
        assert path.stat().st_size > MOST_BYTES
        assert torch.load(path, weights_only=True)["global_step"] == 2


def test_out_of_memory_says_what_would_fit(complaint):
    line = complaint(f"--trainer.callbacks+={__name__}.NoMemory", "--data.batch_size", 4)
    assert line.startswith("out of memory with 4 clips on a device; lower data.batch_size and raise trainer.accumulate_")
