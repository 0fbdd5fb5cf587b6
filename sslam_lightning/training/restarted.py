"""Processes that torchrun's elastic agent has started again find each other, and none of the dead."""

from __future__ import annotations

import atexit
import os
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.strategies import ParallelStrategy
from torch import distributed


def join_anew(trainer: pl.Trainer) -> None:
    """See to the end of the process group; begin it under keys of its own where torchrun has restarted its processes.

    The agent keeps its store of keys over a restart (torch 2.14, unless TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 is set for
    it), and with it the addresses of the processes that have died: whoever starts first would wait for those for ever.
    On several nodes no two agents need agree on the number of restarts, so that there the variable is the way.

    Raises:
        ValueError: several nodes without it.
    """
    if not isinstance(trainer.strategy, ParallelStrategy):
        return
    atexit.register(_end_group)
    attempt = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))
    if not attempt or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return
    if os.environ.get("GROUP_WORLD_SIZE") != "1":
        raise ValueError(
            "torchrun has restarted the processes of several nodes, which would wait for those that have died: set "
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 where torchrun is started, and start it again"
        )
    strategy: Any = trainer.strategy
    rank, world, timeout = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), strategy._timeout
    store = distributed.TCPStore(
        os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False, timeout=timeout
    )
    distributed.init_process_group(
        strategy._get_process_group_backend(),
        store=distributed.PrefixStore(f"attempt {attempt}", store),
        rank=rank,
        world_size=world,
        timeout=timeout,
    )


def _end_group() -> None:
    """While the interpreter still lives: the group's threads end with it otherwise, and now and then the process aborts."""
    if distributed.is_initialized():
        distributed.destroy_process_group()
