from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from sslam_lightning.models import (
    ClassificationHead,
    Encoder,
    EncoderConfig,
    TransformerDecoderConfig,
)
from sslam_lightning.training.run.optimizers import OptimizerConfig, ScheduledLR, build_optimizer


def model(config: EncoderConfig) -> nn.ModuleList:
    return nn.ModuleList([Encoder(config), ClassificationHead(config.dim, 3)])


def settings_of(modules: nn.ModuleList, config: OptimizerConfig) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay of every parameter by its name, every parameter once."""
    optimizer = build_optimizer(list(modules), config, len(modules[0].blocks), fused=False)
    names = {id(parameter): name for module in modules for name, parameter in module.named_parameters()}
    found: dict[str, tuple[float, float]] = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            assert name not in found
            found[name] = (group["lr"], group["weight_decay"])
    assert len(found) == len(names)
    return found


def by_part(found: dict[str, tuple[float, float]]) -> dict[str, set[float]]:
    """The learning rates of every part; blocks each by itself."""
    rates: dict[str, set[float]] = {}
    for name, (lr, _) in found.items():
        words = name.split(".")
        rates.setdefault(".".join(words[:2]) if words[0] in ("prenet", "blocks") else words[0], set()).add(lr)
    return rates


@pytest.mark.parametrize(("scaled", "embedding"), [(True, 0.015625), (False, 1.0)])
def test_layer_decay_by_hand(encoder_config: EncoderConfig, scaled: bool, embedding: float) -> None:
    """D6: the prenet's blocks are layers below the main blocks."""
    modules = model(replace(encoder_config, depth=3, prenet_depth=2))
    config = OptimizerConfig(lr=1.0, layer_decay=0.5, layer_decay_embedding=scaled)
    assert by_part(settings_of(modules, config)) == {
        "linear": {1.0},  # the head
        "norm": {1.0},
        "blocks.2": {0.5},
        "blocks.1": {0.25},
        "blocks.0": {0.125},
        "prenet.1": {0.0625},
        "prenet.0": {0.03125},
        "input_norm": {embedding},
        "cls_token": {embedding},
        "front_end": {embedding},
    }


def test_the_blocks_of_a_decoder_are_none_of_the_encoder(encoder_config: EncoderConfig) -> None:
    decoder = TransformerDecoderConfig(depth=2, num_heads=2, output_projection=True).build(encoder_config.dim)
    modules = nn.ModuleList([Encoder(encoder_config), decoder])
    optimizer = build_optimizer(list(modules), OptimizerConfig(lr=1.0, layer_decay=0.5), 2, fused=False)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert {rates[id(parameter)] for parameter in decoder.parameters()} == {1.0}
    assert rates[id(modules[0].blocks[0].norm1.weight)] == 0.25


def test_the_norm_behind_the_blocks_belongs_to_the_head(encoder_config: EncoderConfig) -> None:
    modules = model(replace(encoder_config, norm="pre"))
    rates = by_part(settings_of(modules, OptimizerConfig(lr=2.0, layer_decay=0.5)))
    assert (rates["output_norm"], rates["blocks.1"], rates["front_end"]) == ({2.0}, {1.0}, {0.25})


def test_without_layer_decay_all_learn_alike(encoder_config: EncoderConfig) -> None:
    found = settings_of(model(encoder_config), OptimizerConfig(lr=0.3))
    assert {lr for lr, _ in found.values()} == {0.3}


def test_biases_norms_and_the_cls_token_are_exempt_from_weight_decay(encoder_config: EncoderConfig) -> None:
    config = OptimizerConfig(weight_decay=0.05, layer_decay=0.5)
    for name, (_, decay) in settings_of(model(encoder_config), config).items():
        exempt = name.endswith("bias") or "norm" in name or name == "cls_token"
        assert decay == (0.0 if exempt else 0.05), name
    as_published = settings_of(model(encoder_config), replace(config, decay_all=True))
    assert {decay for _, decay in as_published.values()} == {0.05}


def test_frozen_parameters_are_left_out(encoder_config: EncoderConfig) -> None:
    encoder, head = model(encoder_config)
    encoder.requires_grad_(False)
    optimizer = build_optimizer([encoder, head], OptimizerConfig(), 2, fused=False)
    assert {id(p) for group in optimizer.param_groups for p in group["params"]} == {id(p) for p in head.parameters()}
    with pytest.raises(ValueError, match=r"no parameter is left to train"):
        build_optimizer([encoder], OptimizerConfig(), 2, fused=False)


def test_the_other_settings_arrive() -> None:
    config = OptimizerConfig(betas=(0.7, 0.8), eps=1e-5)
    for group in build_optimizer([nn.Linear(2, 2)], config, 0, fused=False).param_groups:
        assert (group["betas"], group["eps"]) == ((0.7, 0.8), 1e-5)


def schedule(config: OptimizerConfig, peaks: list[float], max_steps: int) -> tuple[torch.optim.Optimizer, ScheduledLR]:
    groups = [{"params": [nn.Parameter(torch.ones(1))], "lr": peak} for peak in peaks]
    optimizer = torch.optim.SGD(groups, lr=config.lr)
    return optimizer, ScheduledLR(optimizer, config, max_steps)


def run(optimizer: torch.optim.Optimizer, scheduler: ScheduledLR, updates: int) -> list[list[float]]:
    """The rates with which every update is made, and those that come next."""
    rates = [[group["lr"] for group in optimizer.param_groups]]
    for _ in range(updates):
        optimizer.step()
        scheduler.step()
        rates.append([group["lr"] for group in optimizer.param_groups])
    return rates


def test_warmup_and_cosine_by_hand() -> None:
    config = OptimizerConfig(lr=1.0, warmup_steps=2, min_lr=0.1)
    rates = [rate for (rate,) in run(*schedule(config, [1.0], 6), updates=8)]
    middle = (1.0 + 0.1) / 2
    quarter = 0.45 * 2**-0.5  # half the range times cos(pi / 4)
    expected = [0.1, middle, 1.0, middle + quarter, middle, middle - quarter, 0.1, 0.1, 0.1]
    assert rates == pytest.approx(expected)


def test_a_scaled_floor_shrinks_with_the_layers() -> None:
    config = OptimizerConfig(lr=1.0, min_lr=0.1, min_lr_scaled=True)
    rates = run(*schedule(config, [1.0, 0.5, 0.05], 10), updates=10)
    assert rates[0] == pytest.approx([1.0, 0.5, 0.05])
    assert rates[-1] == pytest.approx([0.1, 0.05, 0.005])
    for one, two, three in rates:
        assert two == pytest.approx(0.5 * one)
        assert three == pytest.approx(0.05 * one)


@pytest.mark.parametrize("warmup", [0, 3])
def test_the_as_published_floor_leaves_the_first_layers_a_constant_rate(warmup: int) -> None:
    config = OptimizerConfig(lr=1.0, min_lr=0.1, min_lr_scaled=False, warmup_steps=warmup)
    rates = run(*schedule(config, [1.0, 0.5, 0.05], 10), updates=12)
    assert {three for _, _, three in rates} == {0.05}
    assert rates[warmup][:2] == pytest.approx([1.0, 0.5])
    assert rates[-1][:2] == pytest.approx([0.1, 0.1])
    if warmup:
        assert rates[0][:2] == pytest.approx([0.1, 0.1])


def test_state_is_plain_and_resumes() -> None:
    config = OptimizerConfig(lr=1.0, warmup_steps=3, min_lr=0.01)
    whole = run(*schedule(config, [1.0, 0.5], 10), updates=10)

    optimizer, scheduler = schedule(config, [1.0, 0.5], 10)
    assert run(optimizer, scheduler, 4) == whole[:5]
    state = scheduler.state_dict()
    assert json.loads(json.dumps(state)) == state
    assert state["last_epoch"] == 4
    saved = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "scheduler": state}, saved)
    saved.seek(0)
    loaded = torch.load(saved, weights_only=True)

    optimizer, scheduler = schedule(config, [1.0, 0.5], 10)
    scheduler.load_state_dict(loaded["scheduler"])
    optimizer.load_state_dict(loaded["optimizer"])
    assert run(optimizer, scheduler, 6) == whole[4:]


def test_a_resumed_schedule_is_the_configured_one() -> None:
    """Configuration is not state: a run resumed with another peak or end follows the new one."""
    _, scheduler = schedule(OptimizerConfig(lr=1.0), [1.0], 10)
    _, other = schedule(OptimizerConfig(lr=1.0, min_lr=0.5), [1.0], 20)
    other.load_state_dict(scheduler.state_dict())
    assert (other.max_steps, other.config.min_lr) == (20, 0.5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"lr": 0.0}, r"optimizer: lr must be positive, got 0\.0"),
        ({"layer_decay": 0.0}, r"optimizer: layer_decay must lie in \(0, 1\], got 0\.0"),
        ({"layer_decay": 1.1}, r"optimizer: layer_decay must lie in \(0, 1\], got 1\.1"),
        ({"warmup_steps": -1}, r"optimizer: warmup_steps must not be negative, got -1"),
    ],
)
def test_settings_out_of_range(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OptimizerConfig(**wrong)


def test_a_run_goes_on_with_the_settings_of_its_configuration(encoder_config: EncoderConfig) -> None:
    """Ten updates, then another ten with other settings: at the rates that a run with those has from the start."""
    modules = model(encoder_config)

    def start(config: OptimizerConfig, updates: int):
        optimizer = build_optimizer(list(modules), config, len(modules[0].blocks), fused=False)
        schedule = ScheduledLR(optimizer, config, max_steps=20)
        rates = []
        for _ in range(updates):
            rates.append([group["lr"] for group in optimizer.param_groups])
            for parameter in modules.parameters():
                parameter.grad = torch.ones_like(parameter)
            optimizer.step()
            schedule.step()
        return optimizer, schedule, rates

    before = OptimizerConfig(lr=1e-3, min_lr=1e-4, layer_decay=0.5, weight_decay=0.05)
    after = OptimizerConfig(lr=2e-4, min_lr=1e-4, layer_decay=0.9, weight_decay=0.5, betas=(0.8, 0.9), eps=1e-6)
    saved, its_schedule, _ = start(before, 10)
    optimizer, schedule, _ = start(after, 0)
    optimizer.load_state_dict(saved.state_dict())
    schedule.load_state_dict(its_schedule.state_dict())
    _, _, rates = start(after, 11)
    assert [group["lr"] for group in optimizer.param_groups] == rates[10]
    assert schedule.get_last_lr() == rates[10]
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, 0.5}
    assert {(group["betas"], group["eps"]) for group in optimizer.param_groups} == {((0.8, 0.9), 1e-6)}
    for parameter in modules.parameters():
        torch.testing.assert_close(optimizer.state[parameter]["exp_avg"], saved.state[parameter]["exp_avg"])

    same, same_schedule, _ = start(before, 0)
    same.load_state_dict(saved.state_dict())
    same_schedule.load_state_dict(its_schedule.state_dict())
    assert same.state_dict()["param_groups"] == saved.state_dict()["param_groups"]

    other, _, _ = start(replace(before, layer_decay=1.0), 0)
    with pytest.raises(ValueError, match="has its parameters in other groups: a run does not go on with"):
        other.load_state_dict(saved.state_dict())
