"""AdamW and its learning rates."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lightning.pytorch.utilities import rank_zero_warn
from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from sslam_lightning.schedules import warmup_cosine, warmup_linear
from sslam_lightning.whole_numbers import check_whole_numbers

_EXEMPT = ("cls_token", "alibi.scale", "mask_token", "positions")  # from weight decay, beside biases and norms
_BELOW_BLOCKS = ("front_end", "cls_token", "conv_positions", "alibi", "input_norm")


@dataclass
class OptimizerConfig:
    """AdamW (Loshchilov and Hutter, 2019) with a linear warm-up and a cosine or a straight line down.

    Args:
        lr: peak learning rate.
        betas: decay of the two moving averages.
        eps: keeps the denominator off zero.
        weight_decay: decoupled weight decay.
        decay_all: also decay biases, norms, the CLS token and scales of ALiBi, as the public code does (though it marks
            them exempt).
        warmup_steps: length of the warm-up.
        max_steps: where the schedule ends; None means where the trainer ends.
        min_lr: where warm-up starts and the schedule ends.
        min_lr_scaled: whether ``min_lr`` shrinks with layer decay as the peak does. False is the public code: a layer
            whose peak lies below ``min_lr`` keeps its peak as a constant rate.
        clamp_min_lr: rates rise from and fall to 0, and are held at ``min_lr`` from below (BAT), instead of rising from and
            falling to it.
        layer_decay: factor between the learning rates of a block and the one above it; 1 for none. The prenet's blocks are
            those below the first.
        layer_decay_embedding: whether patch embedding, CLS token and input norm are scaled as the layer below the first
            block. False is the public code, which trains them at the full rate.
        layer_decay_input_norm: whether the input norm is among them; in BAT it is not.
        decay: how the rate falls behind the warm-up: half a ``cosine``, or in a straight line (``linear``, MAE-AST).
    """

    lr: float = 5e-4
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 0.05
    decay_all: bool = False
    warmup_steps: int = 0
    max_steps: int | None = None
    min_lr: float = 0.0
    min_lr_scaled: bool = True
    clamp_min_lr: bool = False
    layer_decay: float = 1.0
    layer_decay_embedding: bool = True
    layer_decay_input_norm: bool = True
    decay: Literal["cosine", "linear"] = "cosine"

    def __post_init__(self) -> None:
        check_whole_numbers(self, "optimizer")
        if not self.lr > 0:
            raise ValueError(f"optimizer: lr must be positive, got {self.lr}")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"optimizer: layer_decay must lie in (0, 1], got {self.layer_decay}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"optimizer: betas must lie in [0, 1), got {self.betas[0]} and {self.betas[1]}")
        if self.weight_decay < 0:
            raise ValueError(f"optimizer: weight_decay must not be negative, got {self.weight_decay}")
        if self.warmup_steps < 0:
            raise ValueError(f"optimizer: warmup_steps must not be negative, got {self.warmup_steps}")
        if self.max_steps is not None and self.max_steps < 1:
            raise ValueError(f"optimizer: max_steps must be at least 1, got {self.max_steps}")
        if self.min_lr < 0:
            raise ValueError(f"optimizer: min_lr must not be negative, got {self.min_lr}")


class ScheduledLR(LRScheduler):
    """Sets every group's learning rate from the number of finished updates; keeps no state but that number."""

    def __init__(self, optimizer: Optimizer, config: OptimizerConfig, max_steps: int) -> None:
        self.config = config
        self.max_steps = max_steps
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Any]:
        return [self._rate(group["initial_lr"]) for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        return {"last_epoch": self.last_epoch, "_step_count": self._step_count, "_last_lr": self._last_lr}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._last_lr = self.get_lr()
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = rate

    def _rate(self, peak: float) -> float:
        config = self.config
        floor = config.min_lr * peak / config.lr if config.min_lr_scaled else min(config.min_lr, peak)
        schedule = warmup_cosine if config.decay == "cosine" else warmup_linear
        if config.clamp_min_lr:
            return max(floor, schedule(self.last_epoch, peak, 0.0, config.warmup_steps, self.max_steps))
        return schedule(self.last_epoch, peak, floor, config.warmup_steps, self.max_steps)


def build_optimizer(modules: Sequence[nn.Module], config: OptimizerConfig, num_blocks: int, fused: bool) -> AdamW:
    """AdamW over all parameters that learn, in groups by learning rate and weight decay.

    From a checkpoint it takes the moments alone: a run that is resumed with other settings goes on with those.

    Args:
        modules: the encoder, whose layers layer decay tells apart by their names, then the others.
        config: rates and decay.
        num_blocks: of the encoder, without its prenet.
        fused: update all parameters in one kernel.

    Raises:
        ValueError: if nothing learns.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    num_prenet = len({name.split(".")[1] for name, _ in modules[0].named_parameters() if name.startswith("prenet.")})
    for module in modules:
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            lr = config.lr * (_layer_scale(name, config, num_prenet, num_blocks) if module is modules[0] else 1.0)
            exempt = not config.decay_all and (parameter.ndim <= 1 or name.endswith(_EXEMPT))
            groups[lr, 0.0 if exempt else config.weight_decay].append(parameter)
    if not groups:
        raise ValueError("no parameter is left to train")
    params = [{"params": members, "lr": lr, "weight_decay": decay} for (lr, decay), members in groups.items()]
    optimizer = AdamW(params, lr=config.lr, betas=(config.betas[0], config.betas[1]), eps=config.eps, fused=fused)
    optimizer.register_load_state_dict_pre_hook(_moments_alone)
    return optimizer


def build_schedule(optimizer: Optimizer, config: OptimizerConfig, trainer_steps: float) -> ScheduledLR:
    """The schedule of the learning rates, which ends where the trainer ends unless it is configured otherwise.

    Raises:
        ValueError: if nothing says where it ends.
    """
    max_steps = config.max_steps or trainer_steps
    if not math.isfinite(max_steps):
        raise ValueError("the learning rate's cosine needs an end: set trainer.max_steps or optimizer.max_steps")
    if config.warmup_steps >= max_steps:
        rank_zero_warn(
            f"the learning rate rises to the end of the run, of {int(max_steps)} updates: "
            f"model.optimizer.warmup_steps is {config.warmup_steps}"
        )
    return ScheduledLR(optimizer, config, int(max_steps))


def _moments_alone(optimizer: Optimizer, saved: dict[str, Any]) -> dict[str, Any]:
    """What was saved, with this optimizer's settings in place of the saved ones."""
    theirs, ours = saved["param_groups"], optimizer.param_groups
    if [len(group["params"]) for group in theirs] != [len(group["params"]) for group in ours]:
        raise ValueError(
            "the checkpoint's optimizer has its parameters in other groups: a run does not go on with another decay_all or "
            "layer_decay_embedding, nor with layer_decay or weight_decay switched on or off; to start from its weights, "
            "name it in model.init_from"
        )
    return {**saved, "param_groups": [{**own, "params": group["params"]} for group, own in zip(theirs, ours, strict=True)]}


def _layer_scale(name: str, config: OptimizerConfig, num_prenet: int, num_blocks: int) -> float:
    """Layer decay (BEiT, Bao et al., 2022): one factor less for every block towards the input."""
    part, _, rest = name.partition(".")
    if part in ("prenet", "blocks"):
        below = int(rest.split(".")[0]) + (num_prenet if part == "blocks" else 0)
        return config.layer_decay ** (num_prenet + num_blocks - below)
    if part == "input_norm" and not config.layer_decay_input_norm:
        return 1.0
    if part in _BELOW_BLOCKS and config.layer_decay_embedding:
        return config.layer_decay ** (num_prenet + num_blocks + 1)
    return 1.0
