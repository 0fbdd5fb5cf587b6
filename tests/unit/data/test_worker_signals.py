"""A signal to all processes of a job leaves the workers of its loaders alone; their parent can still end them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys

import pytest

from sslam_lightning.data import SyntheticDataset
from sslam_lightning.data.loading.loader import ClipLoader

pytestmark = pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="this system does not tell who sends a signal")


def test_workers_go_on_reading_and_end_with_their_parent():
    loader = ClipLoader(SyntheticDataset(8, clip_seconds=0.1), batch_size=1, num_workers=1, prefetch_factor=1)
    batches = iter(loader)
    indices = next(batches).clip_index.tolist()
    (worker,) = multiprocessing.active_children()
    # From another process, as Slurm does it.
    kill = f"import os; [os.kill({worker.pid}, number) for number in ({', '.join(str(int(s)) for s in SIGNALS)})]"
    subprocess.run([sys.executable, "-c", kill], check=True)
    for batch in batches:
        indices += batch.clip_index.tolist()
    assert indices == list(range(8))


def test_its_parent_ends_a_worker():
    loader = ClipLoader(SyntheticDataset(8, clip_seconds=0.1), batch_size=1, num_workers=1, prefetch_factor=1)
    batches = iter(loader)
    next(batches)
    (worker,) = multiprocessing.active_children()
    os.kill(worker.pid, signal.SIGTERM)
    worker.join(300)
    assert worker.exitcode == 0


SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
