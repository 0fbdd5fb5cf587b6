"""What a machine does to a run is said in one line, and nothing that was there before is lost."""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from test_bad_input import RECIPE, _one_line

from sslam_lightning.__main__ import main
from sslam_lightning.cli.trouble import explain_trouble, is_out_of_memory
from sslam_lightning.data import SyntheticDataset
from sslam_lightning.data.loader import ClipLoader

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
        f"{tmp_path}/run takes no more (File too large): what was being written is lost, the checkpoints before it are "
        f"whole. Make room, then resume with --ckpt_path={tmp_path}/run/checkpoints/last.ckpt"
    )
    kept = sorted((tmp_path / "run" / "checkpoints").glob("*.ckpt"))
    assert [path.name for path in kept] == ["epoch=0-step=2.ckpt", "last.ckpt"]
    for path in kept:
        assert path.stat().st_size > MOST_BYTES
        assert torch.load(path, weights_only=True)["global_step"] == 2


def test_out_of_memory_says_what_would_fit(complaint):
    line = complaint(f"--trainer.callbacks+={__name__}.NoMemory", "--data.batch_size", 4)
    found = re.fullmatch(
        r"out of memory on the CPU \((\S+) GiB\): 4 clips take about 0\.0 GiB by estimate; --data\.batch_size=2 "
        r"--trainer\.accumulate_grad_batches=2 makes the same update in about 0\.0 GiB",
        line,
    )
    assert found, line
    assert float(found[1]) > 0.5


class FakeTrainer:
    """On a GPU of 80 GiB, in bfloat16."""

    precision, accumulate_grad_batches, world_size, global_rank, global_step = "bf16-mixed", 4, 1, 0, 7

    class strategy:
        root_device = torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("gib", "told"),
    [
        (80, r"12 clips take about 15\.\d GiB by estimate; --data\.batch_size=6 --trainer\.accumulate_grad_batches=8 m"),
        (7, r"--data\.batch_size=4 --trainer\.accumulate_grad_batches=12 makes the same update in about 6\.\d GiB"),
        (2, r"and no smaller batch fits: try fewer masks, a smaller model, or configs/overlays/trainer/fsdp\.yaml"),
    ],
)
def test_the_largest_batch_that_fits(gib, told, monkeypatch):
    from types import SimpleNamespace

    from sslam_lightning.training import PretrainModule

    with torch.device("meta"):
        module = PretrainModule()
    room = SimpleNamespace(total_memory=gib * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: room)
    data = SimpleNamespace(batch_size=12)
    line = explain_trouble(torch.OutOfMemoryError("CUDA out of memory"), FakeTrainer(), module, data)
    assert line is not None
    assert line.startswith(f"out of memory on cuda:0 ({gib}.0 GiB): ")
    assert re.search(told, line), line


class Fatal(SyntheticDataset):
    """Ends the process that reads from it."""

    def __getitem__(self, key: Any) -> Any:
        os._exit(9)


def test_a_lost_worker_is_told_with_what_to_do():
    """PyTorch finds it and says so; we add how to find the recording."""
    with pytest.raises(RuntimeError) as lost:
        next(iter(ClipLoader(Fatal(1, clip_seconds=0.1), num_workers=1)))
    line = explain_trouble(lost.value, FakeTrainer(), None, None)
    told = r"DataLoader worker \(.*exited unexpectedly.*; `sslam data scan` lists recordings .*data\.num_workers: 0 "
    assert re.match(told, line), line


def test_what_is_none_of_the_machines_business():
    trainer = FakeTrainer()
    assert explain_trouble(RuntimeError("shape mismatch"), trainer, None, None) is None
    assert explain_trouble(FileNotFoundError(2, "No such file"), trainer, None, None) is None
    assert not is_out_of_memory(ValueError("not enough memory of the past"))
