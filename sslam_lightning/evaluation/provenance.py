"""Where a number comes from: the code and the machine."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

import torch

from sslam_lightning.benchmarks.machine import machine_name

_HERE = Path(__file__)


@cache
def commit() -> str | None:
    """Of the checkout that this code is in, with a + where it has been changed since; None outside of one."""
    if _git("ls-files", "--error-unmatch", _HERE.name) is None:
        return None
    found = _git("rev-parse", "--short=12", "HEAD")
    return found and found + ("+" if _git("status", "--porcelain", "--untracked-files=no", "--", _HERE.parents[1]) else "")


def machine(device: torch.device) -> str:
    """What computed, and with which PyTorch."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else machine_name()
    return f"{name}, torch {torch.__version__}"


def _git(*args: str | Path) -> str | None:
    try:
        done = subprocess.run(["git", *args], cwd=_HERE.parent, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
