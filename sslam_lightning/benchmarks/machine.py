"""What the machine can do, measured in the same run as what is compared with it."""

from __future__ import annotations

import platform
import resource
import time

import torch

from sslam_lightning.models import EncoderConfig


def now() -> float:
    """Seconds, after everything asked of the device is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def matrix_rate(precision: str, shapes: list[tuple[int, int, int]], seconds: float = 1.5) -> float:
    """Operations per second of plain matrix products of the step's own shapes (rows, inner, columns), at its best.

    The best and not the mean, because whatever else the machine does makes products slower, never faster.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}[precision]
    at_once = 50 if device == "cuda" else 1  # a GPU works through a queue
    best = 0.0
    for rows, inner, columns in shapes:
        a, b = torch.randn(rows, inner, device=device).to(dtype), torch.randn(inner, columns, device=device).to(dtype)
        a @ b
        end = now() + seconds
        while (start := now()) < end:
            for _ in range(at_once):
                a @ b
            best = max(best, 2 * rows * inner * columns * at_once / (now() - start))
    return best


def encoder_shapes(encoder: EncoderConfig, tokens: int) -> list[tuple[int, int, int]]:
    """The matrix products of a block over so many tokens: rows, inner, columns."""
    hidden = round(encoder.dim * encoder.mlp_ratio)
    return [(tokens, encoder.dim, 3 * encoder.dim), (tokens, encoder.dim, hidden), (tokens, hidden, encoder.dim)]


def peak_memory_gib() -> float:
    """Of this process so far: on the device, where there is one."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 2**30


def machine_name() -> str:
    """What the figures belong to."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.machine()}, {torch.get_num_threads()} threads"
