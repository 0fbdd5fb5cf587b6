"""Recipes learn the same on 1, 2 and 4 processes with 4, 2 and 1 batches an update, noise included."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from curves_job import BATCH, CLIPS, EPOCHS, RECIPES, WORLDS
from processes import run_alone

UPDATES = EPOCHS * -(-CLIPS // (BATCH * WORLDS[-1]))
TOLERANCE = 1e-6  # relative: float32 sums in another order
# Signs of collapse, which are of the last batch of an update, on all devices or on one; and nothing to compare.
_OF_ONE_BATCH = ("train/pred_std", "train/target_std", "train/token_std", "perf/clips_per_second")
_METRICS = ("val/mAP", "val/best_mAP", "val/mAP_num_classes")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What the processes have left; one launch for all, as imports cost the most."""
    if not hasattr(os, "fork"):
        pytest.skip("processes are forked")
    folder = tmp_path_factory.mktemp("curves")
    run_alone("curves_job.py", folder)
    return folder


@pytest.fixture(scope="module")
def curves(folder) -> dict[int, dict[str, Any]]:
    return {world: json.loads((folder / str(world) / "curves.json").read_text()) for world in WORLDS}


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("world", WORLDS[1:])
def test_losses_are_those_of_one_process(recipe, world, curves):
    alone, together = curves[1][recipe], curves[world][recipe]
    assert alone.keys() == together.keys()
    losses = [name for name in alone if "loss" in name or name == "train/grad_norm"]
    assert {"train/loss", "val/loss", "train/grad_norm"} <= set(losses)
    assert [step for step, _ in alone["train/loss"]] == list(range(UPDATES))
    values = [value for _, value in alone["train/loss"]]
    assert max(values) > 1.05 * min(values)  # else there would be nothing to compare
    for name in losses:
        for (step, value), (other_step, other) in zip(alone[name], together[name], strict=True):
            assert step == other_step
            assert other == pytest.approx(value, rel=TOLERANCE), f"{name} of update {step + 1}"


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("world", WORLDS[1:])
def test_whatever_is_no_loss_is_exactly_the_same(recipe, world, curves):
    exact = [name for name in curves[1][recipe] if "loss" not in name and name not in (*_OF_ONE_BATCH, "train/grad_norm")]
    assert {"train/lr", "epoch"} <= set(exact)
    assert set(_METRICS) <= set(exact) or recipe != "fine-tuning"
    for name in exact:
        assert curves[world][recipe][name] == curves[1][recipe][name], name


def test_the_best_score_is_no_accident(curves):
    assert all(0.1 < value < 0.9 for _, value in curves[1]["fine-tuning"]["val/mAP"])


@pytest.mark.parametrize("world", WORLDS[1:])
def test_the_teacher_follows_alike(world, folder):
    alone, together = (torch.load(folder / str(count) / "stage 2.pt", weights_only=True) for count in (1, world))
    teacher = {name: weight for name, weight in alone.items() if name.startswith("teacher.") and name.endswith("weight")}
    assert len(teacher) > 10
    for name, weight in teacher.items():
        torch.testing.assert_close(together[name], weight, rtol=1e-5, atol=1e-6, msg=name)
