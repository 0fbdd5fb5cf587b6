"""Two processes that share out all weights (FSDP) do what one process does, and their checkpoints open anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from processes import run_together
from sharded_job import EPOCHS, KINDS, fit, predict

from sslam_lightning.checkpoints import load_state_dict_strict, read_weights
from sslam_lightning.models import Encoder

# Relative to the largest value of each tensor: float32 sums in another order.
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The runs of two processes, those of one beside them, and runs that one began and the other ended."""
    folder = tmp_path_factory.mktemp("sharded")
    for kind in KINDS:
        runner, diary = fit(kind, folder / "alone" / kind, 1)
        torch.save(diary.logged, folder / "alone" / kind / "logged.pt")
        validated = {name: float(value) for name, value in runner.callback_metrics.items() if name.startswith("val/")}
        torch.save(validated, folder / "alone" / kind / "validated.pt")
    (folder / "alone, then sharded").mkdir()
    (folder / "alone, then sharded" / "epoch=0.ckpt").symlink_to(folder / "alone" / "stage 2" / "epoch=0.ckpt")
    run_together("sharded_job.py", folder)
    (folder / "sharded, then alone").mkdir()
    (folder / "sharded, then alone" / "epoch=0.ckpt").symlink_to(folder / "sharded" / "stage 2" / "epoch=0.ckpt")
    fit("stage 2", folder / "sharded, then alone", 1, first=1)
    return folder


def _checkpoint(folder: Path, run: str) -> dict[str, Any]:
    return torch.load(folder / run / f"epoch={EPOCHS - 1}.ckpt", weights_only=True)


def _assert_close(own: Any, other: Any, where: str = "") -> None:
    if isinstance(other, torch.Tensor):
        assert type(own) is torch.Tensor, where
        if other.numel() and other.is_floating_point() and other.isfinite().all():
            error = float((own - other).abs().max())
            assert error <= TOLERANCE * max(float(other.abs().max()), 1e-2), f"{where} differs by {error}"
    elif isinstance(other, dict):
        assert own.keys() == other.keys(), where
        for key in other:
            _assert_close(own[key], other[key], f"{where}.{key}")
    elif isinstance(other, list):
        assert len(own) == len(other), where
        for place, (left, right) in enumerate(zip(own, other, strict=True)):
            _assert_close(left, right, f"{where}[{place}]")


@pytest.mark.parametrize("kind", KINDS)
def test_weights_teacher_and_logs_are_those_of_one_process(kind, folder):
    own, other = _checkpoint(folder, f"sharded/{kind}"), _checkpoint(folder, f"alone/{kind}")
    _assert_close(own["state_dict"], other["state_dict"])
    assert any(name.startswith("teacher.") for name in own["state_dict"]) == (kind != "fine-tuning")
    logged = [torch.load(folder / f"rank{rank}.pt", weights_only=True)[kind]["logged"] for rank in (0, 1)]
    alone = torch.load(folder / "alone" / kind / "logged.pt", weights_only=True)
    assert len(alone) == 2 * EPOCHS
    for entries in zip(*logged, alone, strict=True):
        for name in {"train/grad_norm", "train/target_std", "train/pred_std", "train/ema_decay"} & entries[2].keys():
            assert entries[0][name] == entries[1][name] == pytest.approx(entries[2][name], rel=1e-5), name


@pytest.mark.parametrize("kind", KINDS)
def test_a_rank_without_clips_takes_part_in_a_validation_and_counts_nothing(kind, folder):
    alone = torch.load(folder / "alone" / kind / "validated.pt", weights_only=True)
    assert "val/loss" in alone
    for rank in (0, 1):
        validated = torch.load(folder / f"rank{rank}.pt", weights_only=True)[kind]["validated"]
        assert validated == pytest.approx(alone, rel=1e-5)
        assert validated.get("val/mAP") == alone.get("val/mAP")


@pytest.mark.parametrize("kind", ["stage 1", "fine-tuning"])
def test_predictions_are_those_of_one_process(kind, folder):
    one, two = (torch.load(folder / f"rank{rank}.pt", weights_only=True)[kind]["predicted"] for rank in (0, 1))
    alone = predict(kind, folder / "alone" / kind, 1)
    assert len(one) == 3
    assert len(two) == 2
    assert sorted([*one, *two]) == sorted(alone)
    for name, row in {**one, **two}.items():
        assert row == pytest.approx(alone[name], rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("kind", ["stage 2", "fine-tuning"])
def test_a_run_goes_on_between_two_batches_of_an_update(kind, folder):
    for rank in (0, 1):
        assert torch.load(folder / f"rank{rank}.pt", weights_only=True)[kind]["differs"] == []


def test_a_device_holds_half_of_the_weights(folder):
    for rank in (0, 1):
        assert torch.load(folder / f"rank{rank}.pt", weights_only=True)["stage 1"]["rows"] == 4 * 32 / 2


@pytest.mark.parametrize("run", ["sharded", "alone"])
def test_last_is_the_last_and_best_the_best(run, folder):
    """U1: of two epochs with two updates each the first has the better score."""
    kept = folder / run / "fine-tuning" / "kept"
    assert sorted(path.name for path in kept.iterdir()) == ["best.ckpt", "last.ckpt"]
    for name, epoch in (("best", 0), ("last", 1)):
        own = torch.load(kept / f"{name}.ckpt", weights_only=True)
        assert own["global_step"] == 2 * (epoch + 1)
        other = torch.load(folder / run / "fine-tuning" / f"epoch={epoch}.ckpt", weights_only=True)
        assert all(torch.equal(own["state_dict"][name], weight) for name, weight in other["state_dict"].items())


def test_checkpoints_open_in_a_single_process(folder):
    weights = read_weights(folder / "sharded" / "stage 2" / "epoch=1.ckpt")
    encoder = Encoder(weights.encoder).eval()
    load_state_dict_strict(encoder, weights.student, "student", weights.source)
    log_mels = torch.randn(2, 64, 128)
    other = Encoder(weights.encoder).eval()
    load_state_dict_strict(other, read_weights(folder / "alone" / "stage 2" / "epoch=1.ckpt").student, "student", "")
    torch.testing.assert_close(encoder(log_mels).cls, other(log_mels).cls, rtol=1e-4, atol=1e-4)
    assert weights.teacher is not None
    assert weights.decoder is not None


@pytest.mark.parametrize("run", ["sharded, then alone", "alone, then sharded"])
def test_a_run_goes_on_with_another_number_of_processes(run, folder):
    """Optimizer and schedule included: they would show in the second epoch."""
    own, other = _checkpoint(folder, run), _checkpoint(folder, "alone/stage 2")
    for part in ("state_dict", "optimizer_states"):
        states = [checkpoint[part] for checkpoint in (own, other)]
        if part == "optimizer_states":
            assert _moments(own["optimizer_states"][0]).keys() == _moments(other["optimizer_states"][0]).keys()
            states = [_moments(checkpoint[part][0]) for checkpoint in (own, other)]
        _assert_close(*states, part)
    assert own["global_step"] == other["global_step"] == 2 * EPOCHS
    assert own["callbacks"]["EMATeacher"] == other["callbacks"]["EMATeacher"]


def _moments(optimizer: dict[str, Any]) -> dict[Any, Any]:
    """By place in the groups: the numbers that stand for parameters may differ."""
    places = [number for group in optimizer["param_groups"] for number in group["params"]]
    return {place: optimizer["state"][number] for place, number in enumerate(places)}


def test_a_sharded_run_starts_from_another_runs_weights(folder):
    student = read_weights(folder / "sharded" / "stage 1" / "epoch=1.ckpt").student
    for rank in (0, 1):
        started = torch.load(folder / f"rank{rank}.pt", weights_only=True)["started from"]
        assert started.keys() <= student.keys()
        assert started
        assert all(torch.equal(started[name], student[name]) for name in started)


def test_what_does_not_fit_is_said_in_one_line(folder):
    for rank in (0, 1):
        told = torch.load(folder / f"rank{rank}.pt", weights_only=True)
        assert told["other size"] == (
            "the checkpoint's student.blocks.0.mlp.fc1.weight has shape (128, 32), the model expects (64, 32): "
            "the configured size is not the checkpoint's"
        )
        assert told["no clips"].startswith(f"rank {rank} can read too few clips of its batch for a step, which FSDP")
