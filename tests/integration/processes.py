"""Starting a few processes of one machine that train together over gloo."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from prefork import interpreter
from torch import distributed

import sslam_lightning

_HERE = Path(__file__).parent
_PACKAGE = Path(sslam_lightning.__file__).parents[1]
_PLACES = tempfile.TemporaryDirectory(prefix="meet")
_HANGS_SECONDS = 900.0  # no measure of how fast anything is


def start(*program: object, ranks: int = 2) -> list[subprocess.Popen[str]]:
    """One process a rank, as Lightning's own launcher would start them; each prints into a pipe of its own."""
    environment = {
        **os.environ,
        "NODE_RANK": "0",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(_PACKAGE), str(_HERE), str(_HERE.parent), os.environ.get("PYTHONPATH", "")]),
        "MEET_IN": f"{tempfile.mkdtemp(dir=_PLACES.name)}/store",
        "MEET": str(ranks),
    }
    return [
        subprocess.Popen(
            [*interpreter(), *map(str, program)],
            env={**environment, "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(ranks)
    ]


def meet() -> None:
    """Begin the process group over a file; over a port, as Lightning does, another program may come in between."""
    place, ranks, rank = (os.environ[name] for name in ("MEET_IN", "MEET", "LOCAL_RANK"))
    distributed.init_process_group("gloo", init_method=f"file://{place}", world_size=int(ranks), rank=int(rank))


def wait_for(jobs: Sequence[subprocess.Popen[str]]) -> list[str]:
    """What the processes printed, when all have ended; none is left behind."""
    try:
        return [job.communicate(timeout=_HANGS_SECONDS)[0] for job in jobs]
    finally:
        for job in jobs:
            job.kill()


def run_alone(script: str, *arguments: object) -> None:
    """One process that starts others by itself."""
    run_together(script, *arguments, ranks=1)


def run_together(script: str, *arguments: object, ranks: int = 2) -> None:
    """Start, wait, and expect that all end well."""
    jobs = start(_HERE / script, *arguments, ranks=ranks)
    for job, output in zip(jobs, wait_for(jobs), strict=True):
        assert job.returncode == 0, output[-3000:]
