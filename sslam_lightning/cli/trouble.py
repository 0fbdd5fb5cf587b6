"""What a machine does to a run, in one line that says how to go on."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from sslam_lightning.benchmarks.memory import Arithmetic
from sslam_lightning.benchmarks.step_plan import Placement, features_of, plan_step
from sslam_lightning.data.module import AudioDataModule
from sslam_lightning.training import FinetuneModule, PretrainModule
from sslam_lightning.training.sharding import ShardedStrategy

_GIB = 2**30
_TEMPORARY = 1.2  # what temporary tensors and the allocator's reserve add to the estimate


class MachineTrouble(RuntimeError):
    """The run is well, the machine is not."""

    for_users = True  # the message says it all


def explain_trouble(error: BaseException, trainer: pl.Trainer, module: Any, data: Any) -> str | None:
    """The line for an error that ``fit`` ended with; None if the machine is not to blame."""
    if is_out_of_memory(error):
        return out_of_memory(trainer, module, data)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        folder = Path(trainer.default_root_dir)
        return (
            f"{folder} takes no more ({os.strerror(error.errno)}): what was being written is lost, the checkpoints before "
            f"it are whole. Make room, then resume with --ckpt_path={folder}/checkpoints/last.ckpt"
        )
    if isinstance(error, RuntimeError) and str(error).startswith("DataLoader "):
        return (
            f"{str(error).strip().rstrip('.')}; `sslam data scan` lists recordings that crash the decoder, "
            "data.num_workers: 0 reads in the main process"
        )
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """CUDA has a class for it, the CPU's allocator a text."""
    said = str(error)
    on_cpu = isinstance(error, RuntimeError) and ("can't allocate memory" in said or "not enough memory" in said)
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or on_cpu


def out_of_memory(trainer: pl.Trainer, module: PretrainModule | FinetuneModule, data: AudioDataModule) -> str:
    """What the step takes by estimate, and the largest share of the batch that fits, accumulated to the same update."""
    device, room = _device_memory(trainer)
    batch, accumulated = data.batch_size, trainer.accumulate_grad_batches
    try:
        needs = _estimate(trainer, module, batch)
    except ValueError:  # no estimate is made of such a module
        return f"out of memory on {device} ({room / _GIB:.1f} GiB) with {batch} clips: try a smaller data.batch_size"
    told = f"out of memory on {device} ({room / _GIB:.1f} GiB): {batch} clips take about {needs / _GIB:.1f} GiB by estimate"
    fewest = 2 if getattr(module, "mixing", None) else 1
    for parts in range(2, batch // fewest + 1):
        less = _estimate(trainer, module, batch // parts)
        if batch % parts == 0 and less < room:
            return (
                f"{told}; --data.batch_size={batch // parts} --trainer.accumulate_grad_batches={accumulated * parts} makes "
                f"the same update in about {less / _GIB:.1f} GiB"
            )
    half = "" if "16" in str(trainer.precision) else "--trainer.precision=bf16-mixed, "
    return (
        f"{told}, and no smaller batch fits: try {half}fewer masks, a smaller model, or configs/overlays/trainer/fsdp.yaml"
    )


def _estimate(trainer: pl.Trainer, module: PretrainModule | FinetuneModule, batch_size: int) -> float:
    arithmetic = Arithmetic("16" in str(trainer.precision), trainer.strategy.root_device.type == "cpu")
    placement = Placement(arithmetic, trainer.world_size, isinstance(trainer.strategy, ShardedStrategy))
    return _TEMPORARY * plan_step(module, batch_size, features_of(module).num_frames or 1024, placement).memory.total


def _device_memory(trainer: pl.Trainer) -> tuple[str, float]:
    device = trainer.strategy.root_device
    if device.type == "cuda":
        return str(device), torch.cuda.get_device_properties(device).total_memory
    return "the CPU", os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / max(1, trainer.world_size)
