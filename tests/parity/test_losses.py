"""Losses, gradients and collapse signs of stage 1 and 2 under one option each."""

from __future__ import annotations

import pytest
import torch
from recipes import (
    RecordedMasks,
    RecordedRegions,
    log_mel_batch,
    pretrain_module,
    recipe_input,
    recipe_mask,
    recipe_state,
)
from reference_data import case_names

from sslam_lightning.checkpoints.formats.fairseq import rename

_OURS = {
    "cls": "utterance",
    "recon": "reconstruction",
    "IMAGE_regression": "regression",
    "eat_cls_loss": "utterance",
    "eat_patch_loss": "regression",
    "mix_patch_loss": "source_retention",
}
_CASES = case_names("eat_*", "sslam_*", but=["*features*", "*trajectory*", "*finetune*"])


@pytest.mark.parametrize("name", _CASES)
def test_losses_and_gradients_equal_the_public_ones(name, reference, monkeypatch):
    case = reference.case(name)
    cfg, batch, frames = case["model_cfg"], case["batch"], case["frames"]
    num_patches, num_hidden = case["n_patches"], case["n_patches"] - case["n_keep"]
    settings = {
        "masking": RecordedMasks([recipe_mask(case["seed"] + 1, batch * case["clone_batch"], num_patches, num_hidden)])
    }
    if "unmixed_region_starts" in case:
        starts = tuple(case["unmixed_region_starts"])
        settings["mixing"] = RecordedRegions(starts=starts, region_frames=case["unmixed_region_frames"])
    module = pretrain_module(
        cfg, recipe_state(case["parameters"]), recipe_state(case["teacher_parameters"], "ema."), name, **settings
    )
    logged = {}
    monkeypatch.setattr(module, "log", lambda key, value, **_: logged.update({key: float(value)}))
    monkeypatch.setattr(type(module), "current_epoch", 0)
    targets = {}
    seen = module.teacher_targets
    monkeypatch.setattr(module, "teacher_targets", lambda *a: targets.setdefault("t", seen(*a)))

    total = module.training_step(log_mel_batch(recipe_input(case["seed"], (batch, 1, frames, 128)).squeeze(1)), 0)
    total.backward()

    assert total.item() == pytest.approx(case["total"], rel=1e-4)
    for theirs, value in case["losses_per_sample_size"].items():
        assert logged[f"train/loss/{_OURS[theirs]}"] == pytest.approx(value, rel=1e-4), theirs
    assert logged["train/pred_std"] == pytest.approx(case["pred_var"], rel=1e-4)
    assert logged["train/target_std"] == pytest.approx(case["target_var"], rel=1e-4)

    ours = {"encoder": module.student, "decoder": module.decoder, "reconstruction": module.reconstruction_head}
    for theirs, norm in case["grad_norm"].items():
        ((part, renamed),) = ((p, n) for p, n in rename({theirs: torch.zeros(())})[0].items() if n)
        gradient = ours[part].get_parameter(next(iter(renamed))).grad
        assert gradient.norm().item() == pytest.approx(norm, rel=1e-3, abs=1e-6), theirs

    if "mixing" in settings:
        arrays = reference.arrays(name)
        kept = targets["t"].retained[:, ::9, ::24]
        torch.testing.assert_close(kept, torch.tensor(arrays["mix_patch_target_sub"]), rtol=0, atol=5e-3)
