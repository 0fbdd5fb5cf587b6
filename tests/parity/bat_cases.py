"""BAT's cases: weights by the recipe, through the importer, in the module of its recipe."""

from __future__ import annotations

from pathlib import Path

import torch
import yaml
from recipes import FromLogMels, RecordedMasks, recipe_input, recipe_mask, recipe_tensor
from torch import Tensor

from sslam_lightning.checkpoints import Weights, from_bat, load_state_dict_strict
from sslam_lightning.layers import mel_major_positions
from sslam_lightning.losses import RegressionLoss, TeacherTargets, UtteranceLoss
from sslam_lightning.training.callbacks import EMAConfig
from sslam_lightning.training.run.optimizers import OptimizerConfig

RECIPE = yaml.safe_load((Path(__file__).parents[2] / "configs/pretrain/bat_base.yaml").read_text())["model"]["init_args"]


def bat_state(shapes: dict[str, list[int]], prefix: str = "", time_patches: int | None = None) -> dict[str, Tensor]:
    """The recipe's weights; the encoder's table of positions keeps its own value."""
    state = {}
    for name, shape in shapes.items():
        if name in ("encoder.pos_embed", "pos_embed"):
            num_time = time_patches or shape[1] // 8
            state[name] = mel_major_positions(num_time, shape[1] // num_time, shape[2])[None]
        else:
            state[name] = recipe_tensor(prefix + name, shape)
    return state


def bat_arguments(case: dict) -> dict:
    """The public script's words for what a case says."""
    names = ("dim", "depth", "num_heads", "mlp_ratio", "decoder_depth", "decoder_heads", "decoder_mlp_ratio", "decoder_dim")
    frames, mels = case["input_shape"]
    return {**{name: case[name] for name in names}, "time_frame_size": frames, "n_mels": mels, "patch_size": 16}


def bat_weights(case: dict) -> Weights:
    weights = from_bat(
        bat_state(case["parameters"]), bat_arguments(case), case["case"], bat_state(case["teacher_parameters"], "ema.")
    )
    assert not weights.unused
    return weights


def bat_module(case: dict, batches: int = 1) -> FromLogMels:
    """With the losses and targets of the recipe, and the schedules of the case."""
    weights, updates = bat_weights(case), case["updates"]
    rows, num_patches = case["batch"] * case["num_views"], case["n_patches"]
    hidden = num_patches - case["n_keep"]
    masks = [recipe_mask(case["seed"] + 10 * i + 1, rows, num_patches, hidden) for i in range(batches)]
    schedule = {
        "lr": updates["lr"],
        "min_lr": updates["min_lr"],
        "warmup_steps": updates["lr_warmup_steps"],
        "max_steps": updates["optimization_steps"],
        "weight_decay": updates["weight_decay"],
        "betas": tuple(updates["betas"]),
        "eps": updates["eps"],
    }
    ema = (updates["ema_decay_start"], updates["ema_decay_end"], updates["ema_warmup_steps"] - 1)
    module = FromLogMels(
        weights.encoder,
        decoder=weights.decoder_config,
        masking=RecordedMasks(masks),
        masks_per_clip=case["num_views"],
        targets=TeacherTargets(**{**RECIPE["targets"], "top_k_layers": case["depth"]}),
        regression=RegressionLoss(**RECIPE["regression"]),
        utterance=UtteranceLoss(**RECIPE["utterance"]),
        ema=EMAConfig(*ema, start_at_decay=RECIPE["ema"]["start_at_decay"]),
        optimizer=OptimizerConfig(**{**RECIPE["optimizer"], **schedule}),
    )
    load_state_dict_strict(module.student, weights.student, "student", weights.source)
    load_state_dict_strict(module.teacher.encoder, weights.teacher, "teacher", weights.source)
    load_state_dict_strict(module.decoder, weights.decoder, "decoder", weights.source)
    return module


def bat_input(case: dict, batch: int = 0) -> Tensor:
    frames, mels = case["input_shape"]
    x = recipe_input(case["seed"] + 10 * batch, (case["batch"], 1, frames, mels))
    return (0.3 * x + 0.4).clamp(0, 1).squeeze(1)


def assert_close(ours: Tensor, theirs) -> None:
    """Within 1e-4 of the largest value."""
    theirs = torch.as_tensor(theirs)
    torch.testing.assert_close(ours.detach(), theirs, rtol=0, atol=1e-4 * theirs.abs().max().item())
