"""data2vec 2.0 on waveforms, images and text: losses, gradients, collapse signs and features."""

from __future__ import annotations

import pytest
import torch
from recipes import FromReadings, RecordedMasks, data2vec_batch, layer_targets, recipe_state
from reference_data import case_names

from sslam_lightning.checkpoints import from_fairseq, load_strictly
from sslam_lightning.checkpoints.fairseq import rename
from sslam_lightning.models import DecoderConfig
from sslam_lightning.objectives import Regression, Utterance

_CASES = case_names("data2vec2_*")


@pytest.mark.parametrize("name", _CASES)
def test_losses_gradients_and_features_equal_the_public_ones(name, reference, monkeypatch):
    arrays, case = reference.arrays(name), reference.case(name)
    cfg, theirs = case["model_cfg"], case["modality_cfg"]
    cfg = {**cfg, "modalities": {case["modality"].lower(): theirs}}
    teacher = recipe_state(case["teacher_parameters"], "ema.")
    weights = from_fairseq(recipe_state(case["parameters"]), cfg, name, teacher)
    assert not weights.unused
    assert isinstance(weights.decoder_config, DecoderConfig)
    shape = {"beta": cfg["loss_beta"], "scale": cfg["loss_scale"]}
    module = FromReadings(
        weights.encoder,
        weights.decoder_config,
        features=None,
        masking=RecordedMasks([torch.tensor(arrays["mask"]).bool()]),
        masks_per_clip=case["clone_batch"],
        targets=layer_targets(cfg),
        regression=Regression(cfg["d2v_loss"], **shape),
        utterance=Utterance(cfg["cls_loss"], **shape, reduction="sum") if cfg["cls_loss"] else None,
        teacher_parts="blocks" if cfg["ema_encoder_only"] else "encoder" if theirs["ema_local_encoder"] else "context",
    )
    load_strictly(module.student, weights.student, "student", name)
    load_strictly(module.teacher.encoder, weights.teacher, "teacher", name)
    load_strictly(module.decoder, weights.decoder, "decoder", name)
    logged = {}
    monkeypatch.setattr(module, "log", lambda key, value, **_: logged.update({key: float(value.detach())}))
    monkeypatch.setattr(type(module), "current_epoch", 0)
    batch = data2vec_batch(case["modality"], arrays)

    module.training_step(batch, 0).backward()

    expected = {"cls": "utterance", f"{case['modality']}_regression": "regression"}
    assert case["losses_per_sample_size"].keys() <= expected.keys()
    assert logged["train/loss"] == pytest.approx(case["total"], rel=1e-4)
    for public, value in case["losses_per_sample_size"].items():
        assert logged[f"train/loss_{expected[public]}"] == pytest.approx(value, rel=1e-4), public
    assert logged["prediction_variance"] == pytest.approx(case["pred_var"], rel=1e-4)
    assert logged["target_variance"] == pytest.approx(case["target_var"], rel=1e-4)

    ours = {"encoder": module.student, "decoder": module.decoder}
    for public, norm in case["grad_norm"].items():
        ((part, renamed),) = ((p, n) for p, n in rename({public: torch.zeros(())})[0].items() if n)
        gradient = ours[part].get_parameter(next(iter(renamed))).grad
        assert gradient.norm().item() == pytest.approx(norm, rel=1e-3, abs=1e-6), public
    assert len(case["grad_norm"]) == sum(p.requires_grad for m in ours.values() for p in m.parameters())

    module.eval()
    with torch.no_grad():
        encoded = module.student(*module.read(batch))
    features = torch.cat([encoded.clip[:, None], encoded.tokens], dim=1) if weights.encoder.clip_token else encoded.tokens
    _close(features, arrays["features"])


def _close(ours, theirs):
    theirs = torch.tensor(theirs)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4 * theirs.abs().max().item())


def test_some_cases_were_found():
    assert _CASES
