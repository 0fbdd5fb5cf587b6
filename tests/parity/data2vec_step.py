"""One pre-training step of data2vec 2.0 or EAT on a recorded input, against the recorded numbers."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from recipes import FromReadings, RecordedMasks, data2vec_batch, layer_targets, recipe_input, recipe_mask, recipe_state
from torch import Tensor

from sslam_lightning.checkpoints import Weights, from_fairseq, load_state_dict_strict
from sslam_lightning.checkpoints.formats.fairseq import rename
from sslam_lightning.losses import RegressionLoss, UtteranceLoss
from sslam_lightning.models import ConvDecoderConfig, EncoderInput
from sslam_lightning.training import PretrainModule
from sslam_lightning.types import ImageBatch

_OURS = {"cls": "utterance"}


class FromSpectrograms(FromReadings):
    """The real module, fed with recorded log-mels, which EAT keeps as images of one channel."""

    def read(self, batch) -> EncoderInput:
        return EncoderInput(batch.images.squeeze(1))


def public_cfg(case: dict) -> dict:
    """The configuration as a checkpoint has it; the first recordings kept the trained section apart."""
    cfg = case["model_cfg"]
    return cfg if "modalities" in cfg else {**cfg, "modalities": {case["modality"].lower(): case["modality_cfg"]}}


def public_weights(case: dict, name: str, cfg: dict | None = None, **options) -> Weights:
    """The recorded weights through the real importer."""
    own = {key: torch.tensor(value) for key, value in case.get("own_values", {}).items()}
    state = recipe_state(case["parameters"]) | {key: own[key] for key in own if key in case["parameters"]}
    teacher = recipe_state(case["teacher_parameters"], "ema.")
    teacher |= {key: own[key] for key in own if key in case["teacher_parameters"]}
    weights = from_fairseq(state, cfg or public_cfg(case), name, teacher, **options)
    assert not weights.unused
    return weights


def without_randomness(weights: Weights) -> Weights:
    """The model as it was recorded, with everything random switched off."""
    assert isinstance(weights.decoder_config, ConvDecoderConfig)
    decoder = replace(weights.decoder_config, noise_std=0.0, input_dropout=0.0)
    front_end = weights.encoder.front_end
    if hasattr(front_end, "dropout"):
        front_end = replace(front_end, dropout=0.0)
    return weights._replace(decoder_config=decoder, encoder=replace(weights.encoder, front_end=front_end))


def recorded_step(case: dict, arrays: dict[str, np.ndarray], weights: Weights) -> tuple[PretrainModule, object]:
    """The module with these weights and the recorded mask, and the batch."""
    cfg, spectrograms = public_cfg(case), weights.encoder.front_end is None
    section = cfg["modalities"][case["modality"].lower()]
    mask = torch.tensor(arrays["mask"]).bool() if "mask" in arrays else _recipe_mask(case)
    shape = {"beta": cfg["loss_beta"], "scale": cfg["loss_scale"]}
    module = (FromSpectrograms if spectrograms else FromReadings)(
        weights.encoder,
        weights.decoder_config,
        features=None,
        masking=RecordedMasks([mask]),
        masks_per_clip=case["clone_batch"],
        targets=layer_targets(cfg, weights.encoder.depth),
        regression=RegressionLoss(cfg["d2v_loss"], **shape),
        utterance=UtteranceLoss(cfg["cls_loss"], **shape, reduction="sum") if cfg["cls_loss"] else None,
        teacher_parts="blocks" if cfg["ema_encoder_only"] else "encoder" if section["ema_local_encoder"] else "context",
    )
    load_state_dict_strict(module.student, weights.student, "student", weights.source)
    load_state_dict_strict(module.teacher.encoder, weights.teacher, "teacher", weights.source)
    load_state_dict_strict(module.decoder, weights.decoder, "decoder", weights.source)
    if "source" in arrays:
        return module, data2vec_batch(case["modality"], arrays)
    source, rows = recipe_input(case["seed"], case["source_shape"]), case["batch"]
    return module, ImageBatch(source, torch.zeros(rows, 0), torch.arange(rows), ("recorded",) * rows)


def _recipe_mask(case: dict) -> Tensor:
    rows, num_patches = case["batch"] * case["clone_batch"], case["n_patches"]
    return recipe_mask(case["seed"] + 1, rows, num_patches, num_patches - case["n_keep"])


def assert_same_step(case: dict, module: PretrainModule, batch: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses, gradients and collapse signs are those of the public code."""
    logged: dict[str, float] = {}
    monkeypatch.setattr(module, "log", lambda key, value, **_: logged.update({key: float(value.detach())}))
    monkeypatch.setattr(type(module), "current_epoch", 0)
    module.training_step(batch, 0).backward()
    ours = {**_OURS, f"{case['modality']}_regression": "regression"}
    assert logged["train/loss"] == pytest.approx(case["total"], rel=1e-4)
    for public, value in case["losses_per_sample_size"].items():
        assert logged[f"train/loss/{ours[public]}"] == pytest.approx(value, rel=1e-4), public
    assert logged["train/pred_std"] == pytest.approx(case["pred_var"], rel=1e-4)
    assert logged["train/target_std"] == pytest.approx(case["target_var"], rel=1e-4)
    modules = {"encoder": module.student, "decoder": module.decoder}
    for public, norm in case["grad_norm"].items():
        ((part, renamed),) = ((p, n) for p, n in rename({public: torch.zeros(())})[0].items() if n)
        gradient = modules[part].get_parameter(next(iter(renamed))).grad
        assert gradient.norm().item() == pytest.approx(norm, rel=1e-3, abs=1e-6), public
    assert len(case["grad_norm"]) == sum(p.requires_grad for m in modules.values() for p in m.parameters())


def assert_same_features(arrays: dict[str, np.ndarray], module: PretrainModule, batch: object) -> None:
    """The encoder's features of whole clips are those of the public code."""
    module.eval()
    with torch.no_grad():
        encoded = module.student(*module.read(batch))
    has_token = module.student.config.cls_token
    features = torch.cat([encoded.cls[:, None], encoded.tokens], dim=1) if has_token else encoded.tokens
    theirs = torch.tensor(arrays["features"])
    torch.testing.assert_close(features, theirs, rtol=0, atol=1e-4 * theirs.abs().max().item())


@contextmanager
def recorded_noise(noise: Tensor, monkeypatch: pytest.MonkeyPatch):
    """The decoder's normal noise is the recorded one, as of deviation 1."""
    with monkeypatch.context() as patch:
        patch.setattr(torch, "randn", lambda *shape, **_: noise.reshape(shape))
        yield
