"""What epochs over a long list of recordings cost in memory: nothing that stays, and nothing that workers have to copy."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path

from sslam_lightning.data.loading.dataset import RecordingDataset
from sslam_lightning.data.loading.loader import ClipLoader
from sslam_lightning.data.loading.sampler import EpochSampler
from sslam_lightning.data.manifests.recordings import make_recordings

ROWS, CLIPS_AN_EPOCH = 40_000, 4_000


def missing(folder: Path, rows: int) -> RecordingDataset:
    """A data set of files that are not there, so that reading takes no time."""
    names = (f"folder{i % 40}/a recording of which there is no file {i}.flac" for i in range(rows))
    return RecordingDataset(make_recordings(str(folder), names, [()] * rows, ()))


def num_objects(root: object) -> int:
    """Python objects that hang on this one; classes, modules and functions are everybody's."""
    found: dict[int, object] = {}
    todo = [root]
    while todo:
        thing = todo.pop()
        if id(thing) not in found and not isinstance(thing, type) and not callable(thing):
            found[id(thing)] = thing
            todo += gc.get_referents(thing)
    return len(found)


def test_a_longer_list_is_not_of_more_objects(tmp_path: Path) -> None:
    """R30: a worker that counts the references of an object copies its page; so no object stands for one recording."""
    assert num_objects(missing(tmp_path, 10_000)) == num_objects(missing(tmp_path, 100))


def test_memory_does_not_grow_over_epochs(tmp_path: Path) -> None:
    """R30: what Python and NumPy have allocated in this process and not freed, epoch after epoch."""
    sampler = EpochSampler(ROWS, 100, samples_per_epoch=CLIPS_AN_EPOCH)
    loader = ClipLoader(missing(tmp_path, ROWS), sampler=sampler, batch_size=100)
    used = []
    tracemalloc.start()
    for epoch in range(4):
        sampler.set_epoch(epoch)
        assert sum(len(batch.broken) for batch in loader) == CLIPS_AN_EPOCH
        gc.collect()
        used.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    # Names kept as strings would be 100 bytes for every clip that comes for the first time, 300 kB an epoch.
    assert used[-1] - used[0] < 50_000, used
