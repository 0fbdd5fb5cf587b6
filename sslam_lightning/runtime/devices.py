"""The devices that a command may name."""

from __future__ import annotations

import torch


def device_named(name: str) -> torch.device:
    """The device that ``--device`` names; ``auto`` takes a GPU where there is one.

    Raises:
        ValueError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.zeros(0, device=name).device
    except (RuntimeError, AssertionError):
        device = torch.device("meta")
    if device.type == "meta":
        raise ValueError(f"there is no device {name or repr(name)} here: try cpu, or cuda where there is a GPU (--device)")
    return device
