"""Settings of Lightning's Trainer that it divides by, or follows into trouble, before it complains."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch


def check_trainer_settings(settings: Mapping[str, Any]) -> None:
    """For runs, and for plans and jobs made of their settings.

    Raises:
        ValueError: naming the first that is out of its range.
    """
    for name in ("accumulate_grad_batches", "check_val_every_n_epoch", "num_nodes", "val_check_interval"):
        value = settings[name]
        if isinstance(value, (int, float)) and value <= 0:
            raise ValueError(f"trainer.{name} must be positive, got {value}")
    for name in ("gradient_clip_val", "log_every_n_steps"):
        value = settings[name]
        if isinstance(value, (int, float)) and not value >= 0:
            raise ValueError(f"trainer.{name} must not be negative, got {value}")
    devices = settings["devices"]
    if not isinstance(devices, list) and not re.fullmatch(r"auto|-1|0*[1-9]\d*|\d+(\s*,\s*\d*)+", str(devices)):
        raise ValueError(f"trainer.devices must be auto, a positive number or a list of numbers, got {devices}")


def check_gpus_are_here(devices: Any, accelerator: Any) -> None:
    """A recipe for several GPUs would start as many processes on a CPU.

    Raises:
        ValueError: there is no GPU here, and nobody asks for a CPU.
    """
    several = str(devices).isdigit() and int(devices) > 1  # text on the command line
    if several and accelerator == "auto" and not torch.accelerator.is_available():
        raise ValueError(
            f"this is a recipe for {devices} GPUs, and there is none here: layer "
            "configs/overlays/trainer/cpu.yaml over it, and a small model (tiny.yaml and tiny_pretrain.yaml of "
            "configs/overlays/sizes); or ask for processes with --trainer.accelerator=cpu"
        )
