"""Starting a few processes of one machine that train together over gloo."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import sslam_lightning

_HERE = Path(__file__).parent
_PACKAGE = Path(sslam_lightning.__file__).parents[1]


def start(script: str, *arguments: object, ranks: int = 2) -> list[subprocess.Popen[str]]:
    """One process a rank, as Lightning's own launcher would start them; each prints into a pipe of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "NODE_RANK": "0",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(_PACKAGE), str(_HERE), os.environ.get("PYTHONPATH", "")]),
    }
    return [
        subprocess.Popen(
            [sys.executable, str(_HERE / script), *map(str, arguments)],
            env={**environment, "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(ranks)
    ]


def wait_for(jobs: Sequence[subprocess.Popen[str]], seconds: float = 240) -> list[str]:
    """What the processes printed, when all have ended; none is left behind."""
    try:
        return [job.communicate(timeout=seconds)[0] for job in jobs]
    finally:
        for job in jobs:
            job.kill()


def run_alone(script: str, *arguments: object) -> None:
    """One process that starts others by itself."""
    run_together(script, *arguments, ranks=1)


def run_together(script: str, *arguments: object, ranks: int = 2) -> None:
    """Start, wait, and expect that all end well."""
    jobs = start(script, *arguments, ranks=ranks)
    for job, output in zip(jobs, wait_for(jobs), strict=True):
        assert job.returncode == 0, output[-3000:]
