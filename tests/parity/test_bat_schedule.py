"""BAT's optimizers and schedules, those of the shipped recipe among them (D10)."""

from __future__ import annotations

import pytest
import torch
from bat_cases import RECIPE
from reference_data import case_names
from torch import nn

from sslam_lightning.checkpoints.formats.bat import rename
from sslam_lightning.evaluation import ConvexGatedProbe
from sslam_lightning.evaluation.protocols.token_probes import ConvexGate
from sslam_lightning.models import ClassificationHead, Encoder, EncoderConfig
from sslam_lightning.training.callbacks import EMAConfig, EMATeacher
from sslam_lightning.training.run.optimizers import OptimizerConfig, ScheduledLR, build_optimizer

CASES = case_names("bat_optimizer_schedule*")
PROBE = {"linear.weight": "fc.weight", "prototypes": "prototype_vectors", "layer_logits": "block_attention"}


def rate_at(schedule: ScheduledLR, update: int) -> list[float]:
    schedule.last_epoch = update
    return schedule.get_lr()


@pytest.mark.parametrize("name", CASES)
def test_the_recipe_for_pretraining(name, reference):
    """D10: the numbers of the public configuration, by the shipped recipe."""
    case = reference.case(name)["pretraining"]
    config = OptimizerConfig(**RECIPE["optimizer"])
    assert (tuple(config.betas), config.eps) == (tuple(case["betas"]), case["eps"])
    optimizer = build_optimizer([nn.LayerNorm(3), nn.Linear(3, 3)], config, 1, fused=False)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [case["weight_decay"]]
    schedule = ScheduledLR(optimizer, config, case["optimization_steps"])
    for update, rate in case["lr_of_update"].items():
        assert rate_at(schedule, int(update)) == [pytest.approx(rate, rel=1e-9)], update
    ema = EMATeacher(EMAConfig(**RECIPE["ema"]))
    for update, decay in case["ema_decay_after_update"].items():
        ema.updates = int(update) + 1
        assert ema.decay == pytest.approx(decay, abs=3e-8), update  # the public table is in float32
    assert RECIPE["masks_per_clip"] == case["num_views"]
    assert RECIPE["masking"]["init_args"]["mask_ratio"] == case["mask_ratio"]


@pytest.mark.parametrize("name", CASES)
def test_rates_and_decay_by_parameter_in_fine_tuning(name, reference):
    """D10: the input norm learns at the full rate, whatever the layer decay."""
    case = reference.case(name)["fine_tuning"]
    settings = case["distinct_lr_settings"]
    config = OptimizerConfig(
        lr=case["lr"],
        betas=tuple(case["betas"]),
        weight_decay=case["weight_decay"],
        layer_decay=case["layer_decay"],
        layer_decay_input_norm=False,
        warmup_steps=settings["warmup"],
        min_lr=settings["min_lr"],
        clamp_min_lr=True,
    )
    encoder = Encoder(EncoderConfig(dim=16, depth=case["depth"], num_heads=2, gated_attention=True))
    parts = {"encoder": encoder, "head": ClassificationHead(16, 3)}
    optimizer = build_optimizer(list(parts.values()), config, case["depth"], fused=False)
    group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    assert len(group_of) == len(case["per_parameter"])
    for public, told in case["per_parameter"].items():
        prefixed = public if public.startswith("head.") else f"encoder.{public}"
        ((part, renamed),) = rename({prefixed: torch.zeros(1)}, name).items()
        group = group_of[id(parts[part].get_parameter(next(iter(renamed))))]
        assert group["initial_lr" if "initial_lr" in group else "lr"] / case["lr"] == pytest.approx(told["lr_scale"]), (
            public
        )
        assert group["weight_decay"] == told["weight_decay"], public
    schedule = ScheduledLR(optimizer, config, settings["total"])
    for update, rates in enumerate(case["distinct_lr_of_update"]):
        assert sorted(set(rate_at(schedule, update))) == [pytest.approx(rate, rel=1e-9) for rate in rates], update


@pytest.mark.parametrize("name", CASES)
def test_decay_by_parameter_in_probing(name, reference):
    """D10: prototypes do not decay."""
    case = reference.case(name)["probing"]
    gate = ConvexGate(4, 2, 3, 2)
    probe = ConvexGatedProbe(weight_decay=case["weight_decay"])
    optimizer = probe._optimizer(gate, case["lr"])
    decay_of = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    found = {f"head.{PROBE.get(ours, 'fc.bias')}": decay_of[id(p)] for ours, p in gate.named_parameters()}
    assert found == {public: told["weight_decay"] for public, told in case["per_parameter"].items()}
    assert {group["betas"] for group in optimizer.param_groups} == {tuple(case["betas"])}
    assert {group["lr"] for group in optimizer.param_groups} == {case["lr"]}
