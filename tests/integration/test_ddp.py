"""Two processes with half of the clips each do what one process does with all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ddp_job import BATCH, FINETUNED, ONLY_TOGETHER, PRETRAINED, STEPS, VAL_CLIPS, resume, run
from processes import run_together

from sslam_lightning.data import EpochSampler

# Relative to the largest value of each tensor: float32 sums in another order.
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where two processes have kept their results; one launch for all tests, as it costs ten seconds."""
    folder = tmp_path_factory.mktemp("ddp")
    resume(folder / "one", 1, None)
    run_together("ddp_job.py", folder, folder / "one" / "batch3.ckpt")
    return folder


@pytest.fixture(scope="module")
def ranks(folder) -> list[dict[str, Any]]:
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


@pytest.mark.parametrize("kind", FINETUNED)
def test_losses_are_those_of_all_processes(kind, ranks, alone):
    """D14: with ``bce_reduction: positives`` too, where each process has other labels and other numbers of them."""
    assert len(alone[kind]["losses"]) >= STEPS
    for rank in ranks:
        assert rank[kind]["losses"] == pytest.approx(alone[kind]["losses"], rel=1e-5)


@pytest.mark.parametrize("kind", [*PRETRAINED, *FINETUNED, *ONLY_TOGETHER])
def test_both_ranks_hold_the_same_bits(kind, ranks):
    one, two = (rank[kind]["state"] for rank in ranks)
    assert one.keys() == two.keys()
    assert any(name.startswith("teacher.") for name in one) == (kind not in FINETUNED)
    assert [name for name in one if not torch.equal(one[name], two[name])] == []


def test_a_rank_that_can_read_none_of_its_clips_takes_part_in_the_step(ranks):
    for kind in ONLY_TOGETHER:
        if "rank without clips" in kind:
            assert [rank[kind]["broken"] for rank in ranks] == [BATCH // 2, 0]  # the first tells of all
            assert all(value.isfinite().all() for value in ranks[0][kind]["state"].values())
            assert not torch.equal(
                ranks[0][kind]["state"]["student.cls_token"], ranks[0]["stage 1"]["state"]["student.cls_token"]
            )


def test_validation_losses_of_pretraining_are_means_over_all_clips(ranks, alone):
    name = "pretraining's validation"
    assert alone[name].keys() == {"val/loss", "val/loss/regression", "val/loss/utterance"}
    for rank in ranks:
        assert rank[name] == pytest.approx(alone[name], rel=1e-5)


def test_variances_are_those_of_all_clips(ranks, alone):
    for kind in PRETRAINED:
        assert ranks[0][kind]["variances"] == ranks[1][kind]["variances"]
        assert ranks[0][kind]["variances"] == pytest.approx(alone[kind]["variances"], rel=1e-5)


def test_noise_differs_between_ranks_and_steps(ranks, alone):
    seeds = [rank["stage 1"]["seeds"] for rank in ranks]
    assert len({*seeds[0], *seeds[1]}) == 2 * STEPS
    assert seeds[0][0] == alone["stage 1"]["seeds"][0]
    assert seeds[1][0] == alone["stage 1"]["seeds"][1]  # rank 1 draws what a single process draws in its second batch


def test_validation_scores_every_clip_once_whatever_the_number_of_processes(ranks, alone):
    assert VAL_CLIPS % 2  # so that the ranks have different numbers of clips
    for rank in ranks:
        for name in ("val/mAP", "val/mAP_num_classes"):
            assert rank["validation"][name] == alone["validation"][name], name
        assert rank["validation"]["val/loss"] == pytest.approx(alone["validation"]["val/loss"], rel=1e-5)
    assert 0 < alone["validation"]["val/mAP"] < 1


# Trouble -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [3, 5], ids=["between two updates", "in the second epoch"])
def test_both_ranks_go_on_as_if_nothing_had_happened(batch, ranks):
    for rank in ranks:
        assert len(rank["whole"]["losses"]) == 8
        begun = batch - batch % 2  # a checkpoint stands between two steps
        assert rank[f"from {batch}"]["losses"] == dict(list(rank["whole"]["losses"].items())[begun:])
        assert rank[f"from {batch}"]["clips"] == rank["whole"]["clips"][begun:]
        own, other = rank[f"from {batch}"]["state"], rank["whole"]["state"]
        assert [name for name in own if not torch.equal(own[name], other[name])] == []


def test_another_number_of_ranks_repeats_and_drops_no_clip(ranks, folder):
    order = EpochSampler(15, 2).order
    first, second = (order(epoch).tolist() for epoch in (0, 1))
    # From one process, which had made a step of 4 clips, to two: 11 are left, and one fills the last batch of four.
    left, whole = [*first[4:], first[0]], [*second, second[0]]
    expected = [batch[i : i + 4] for batch in (left, whole) for i in range(0, len(batch), 4)]
    together = [[*one, *two] for one, two in zip(*(rank["from one"]["clips"] for rank in ranks), strict=True)]
    assert together == expected
    assert {rank["from one"]["epochs"] for rank in ranks} == {2}
    # And from two, which had made a step of 8 clips, to one.
    alone = resume(folder / "alone", 1, folder / "kept" / "batch3.ckpt")
    left = [*first[8:], first[0]]
    assert alone["clips"] == [batch[i : i + 2] for batch in (left, whole) for i in range(0, len(batch), 2)]
    assert alone["epochs"] == 2


def test_unreadable_clips_are_counted_over_all_ranks_and_named_once(ranks):
    for rank in ranks:
        assert rank["broken"]["counted"] == 2
    *listed, summary = ranks[0]["broken"]["said"]
    assert sorted(listed) == ["clip 3: clip 3 is broken", "clip 8: clip 8 is broken"]
    assert summary == "2 clips could not be used and were left out together with their labels"
    assert ranks[1]["broken"]["said"] == []


def test_all_ranks_stop_together_when_one_of_them_meets_too_many(ranks):
    told = [rank["broken"]["stopped"] for rank in ranks]
    assert told[0] == told[1]  # by the first rank's data alone it would have gone on
    assert told[0].startswith(
        "6 of 12 clips cannot be used, more than max_unreadable_fraction 0.2 allows; for example clip "
    )
