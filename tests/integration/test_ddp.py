"""Two processes with half of the clips each do what one process does with all of them (corrected settings)."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from ddp_job import BATCH, FINETUNED, ONLY_TOGETHER, PRETRAINED, STEPS, VAL_CLIPS, run

import sslam_lightning

_HERE = Path(__file__).parent
_PACKAGE = Path(sslam_lightning.__file__).parents[1]

# Relative to the largest value of each tensor: float32 sums in another order.
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> list[dict[str, Any]]:
    """What both processes kept; one launch for all tests, as it costs ten seconds."""
    folder = tmp_path_factory.mktemp("ddp")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "NODE_RANK": "0",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(_PACKAGE), str(_HERE), os.environ.get("PYTHONPATH", "")]),
    }
    jobs = [
        subprocess.Popen(
            [sys.executable, str(_HERE / "ddp_job.py"), str(folder)],
            env={**environment, "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        outputs = [job.communicate(timeout=240)[0] for job in jobs]
    finally:
        for job in jobs:
            job.kill()
    for job, output in zip(jobs, outputs, strict=True):
        assert job.returncode == 0, output[-3000:]
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> dict[str, Any]:
    return run(tmp_path_factory.mktemp("alone"), 1)


def _assert_close(own: dict[str, torch.Tensor], other: dict[str, torch.Tensor], floor: float = 0.0) -> None:
    assert own.keys() == other.keys()
    assert own
    for name, value in other.items():
        error = float((own[name] - value).abs().max())
        assert error <= TOLERANCE * max(float(value.abs().max()), floor), f"{name} differs by {error}"


@pytest.mark.parametrize("kind", [*PRETRAINED, *FINETUNED])
def test_gradients_and_weights_equal_those_of_one_process(kind, ranks, alone):
    largest = max(float(value.abs().max()) for value in alone[kind]["gradients"].values())
    # Keys' biases have no gradient but rounding: they are judged by the size of the others.
    _assert_close(ranks[0][kind]["gradients"], alone[kind]["gradients"], floor=0.01 * largest)
    floats = {n: v for n, v in alone[kind]["state"].items() if v.is_floating_point() and v.isfinite().all()}
    _assert_close({n: ranks[0][kind]["state"][n] for n in floats}, floats, floor=1e-2)


@pytest.mark.parametrize("kind", [*PRETRAINED, *FINETUNED, *ONLY_TOGETHER])
def test_both_ranks_hold_the_same_bits(kind, ranks):
    one, two = (rank[kind]["state"] for rank in ranks)
    assert one.keys() == two.keys()
    assert any(name.startswith("teacher.") for name in one) == (kind not in FINETUNED)
    assert [name for name in one if not torch.equal(one[name], two[name])] == []


def test_a_rank_that_can_read_none_of_its_clips_takes_part_in_the_step(ranks):
    for kind in ONLY_TOGETHER:
        if "rank without clips" in kind:
            assert [rank[kind]["broken"] for rank in ranks] == [0, BATCH // 2]
            assert all(value.isfinite().all() for value in ranks[0][kind]["state"].values())
            assert not torch.equal(
                ranks[0][kind]["state"]["student.clip_token"], ranks[0]["stage 1"]["state"]["student.clip_token"]
            )


def test_validation_losses_of_pretraining_are_means_over_all_clips(ranks, alone):
    name = "pretraining's validation"
    assert alone[name].keys() == {"val/loss", "val/loss_regression", "val/loss_utterance"}
    for rank in ranks:
        assert rank[name] == pytest.approx(alone[name], rel=1e-5)


def test_variances_are_those_of_all_clips(ranks, alone):
    for kind in PRETRAINED:
        assert ranks[0][kind]["variances"] == ranks[1][kind]["variances"]
        assert ranks[0][kind]["variances"] == pytest.approx(alone[kind]["variances"], rel=1e-5)


def test_noise_differs_between_ranks_and_steps(ranks, alone):
    seeds = [rank["stage 1"]["seeds"] for rank in ranks]
    assert len({*seeds[0], *seeds[1]}) == 2 * STEPS
    assert seeds[0] == alone["stage 1"]["seeds"]  # rank 0 draws what a single process draws


def test_validation_scores_every_clip_once_whatever_the_number_of_processes(ranks, alone):
    assert VAL_CLIPS % 2  # so that the ranks have different numbers of clips
    for rank in ranks:
        for name in ("val/mAP", "val/scored_classes"):
            assert rank["validation"][name] == alone["validation"][name], name
        assert rank["validation"]["val/loss"] == pytest.approx(alone["validation"]["val/loss"], rel=1e-5)
    assert 0 < alone["validation"]["val/mAP"] < 1
