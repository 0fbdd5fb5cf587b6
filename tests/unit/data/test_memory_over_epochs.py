"""What epochs over a long list of recordings cost in memory: nothing that stays, in no process."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

from sslam_lightning.data.dataset import RecordingDataset
from sslam_lightning.data.loader import ClipLoader
from sslam_lightning.data.recordings import make_recordings
from sslam_lightning.data.sampler import EpochSampler

ROWS, CLIPS_AN_EPOCH, EPOCHS = 400_000, 20_000, 5
_SMAPS = "/proc/{}/smaps_rollup"


def proportional_bytes(process: int) -> int:
    """A process's own memory, pages that it shares with its workers counted by their share.

    Without that of libraries, whose share rises by a hundred megabytes when some other program with them ends.
    """
    (line,) = (line for line in Path(_SMAPS.format(process)).read_text().splitlines() if line.startswith("Pss_Anon:"))
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(not os.path.exists(_SMAPS.format("self")), reason="asks Linux for the memory of processes")
def test_memory_does_not_grow_over_epochs(tmp_path: Path) -> None:
    names = (f"folder{i % 40}/a recording of which there is no file {i}.flac" for i in range(ROWS))
    recordings = make_recordings(str(tmp_path), names, [()] * ROWS, ())  # so that reading takes no time
    sampler = EpochSampler(ROWS, 100, samples_per_epoch=CLIPS_AN_EPOCH)
    loader = ClipLoader(
        RecordingDataset(recordings), sampler=sampler, batch_size=100, num_workers=2, persistent_workers=True
    )
    used = []
    for epoch in range(EPOCHS):
        sampler.set_epoch(epoch)
        assert sum(len(batch.broken) for batch in loader) == CLIPS_AN_EPOCH
        gc.collect()
        workers = [worker.pid for worker in loader._iterator._workers]  # type: ignore[union-attr]
        used.append([proportional_bytes(process) for process in (os.getpid(), *workers)])
    growth = [last - second for second, last in zip(used[1], used[-1], strict=True)]
    # A list of the names as Python strings costs a page for nearly every new clip: 3.6 MB a worker, 6.5 MB here.
    assert max(growth) < 3 * 2**20, growth
