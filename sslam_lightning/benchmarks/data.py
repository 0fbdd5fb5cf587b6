"""How many clips a core can feed, stage by stage, beside the public pipeline, and how many a recipe's devices take."""

from __future__ import annotations

import os
import platform
import time
from collections import defaultdict
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from torch.utils.data import DataLoader

from sslam_lightning.benchmarks import public_pipeline
from sslam_lightning.benchmarks.figures import check_target, report
from sslam_lightning.data import RecordingDataset, collate
from sslam_lightning.data.audio.read import decode_audio
from sslam_lightning.data.audio.resample import resample
from sslam_lightning.data.filesystem import open_binary
from sslam_lightning.data.manifests.manifest import read_labeled
from sslam_lightning.data.manifests.recordings import Recordings
from sslam_lightning.data.shards.read import PackedRecordings, is_shard_folder, read_index, read_labeled_shards
from sslam_lightning.features import LogMels
from sslam_lightning.masking import InverseBlockMask
from sslam_lightning.rng import clip_keys, fold_in
from sslam_lightning.types import Grid
from sslam_lightning.whole_numbers import check_at_least

_RATE_HZ = 16000
_PATCH = 16
_WHOLE = "in a worker"  # what a worker does with a clip, in one piece: the fastest parts may be of different passes
_ALL = "everything on this core"
_BATCHED = ("log-mels", "masks")  # these run in batches on the device that trains


class Clips(NamedTuple):
    """What is measured on: recordings, and the files that they come from, for the public pipeline."""

    recordings: Recordings
    origins: list[str] | None  # None: they are not on this machine
    rows: list[int]


class Clock:
    """Seconds by stage, the fastest of several passes over the same batch or clip."""

    def __init__(self) -> None:
        self._best: dict[str, dict[Hashable, float]] = defaultdict(dict)

    @contextmanager
    def __call__(self, stage: str, what: Hashable) -> Iterator[None]:
        """Measure a stage on a batch or a clip."""
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        self._best[stage][what] = min(seconds, self._best[stage].get(what, seconds))

    def seconds(self) -> dict[str, float]:
        """Seconds over all batches by stage."""
        return {stage: sum(best.values()) for stage, best in self._best.items()}


def run_data_benchmark(
    manifest: str,
    workers: int,
    clips: int,
    repeats: int,
    batch_size: int,
    num_frames: int,
    masks_per_clip: int,
    recipe: str | None,
    step_seconds: float | None,
    out: str | None,
) -> dict[str, Any]:
    """Measure and print; see ``sslam benchmark data --help``."""
    if (recipe is None) != (step_seconds is None):
        raise ValueError("what a recipe needs takes both --recipe and --step_seconds")
    check_at_least(1, clips=clips, repeats=repeats, batch_size=batch_size, masks_per_clip=masks_per_clip)
    check_at_least(0, workers=workers)
    check_target(out)
    needed = None if recipe is None or step_seconds is None else clips_needed(recipe, step_seconds)
    found = _find(manifest, clips)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        ours, public = Clock(), Clock()
        for _ in range(repeats):
            for batch in range(0, len(found.rows), batch_size):
                rows = found.rows[batch : batch + batch_size]
                _measure_ours(ours, batch, found.recordings, rows, num_frames, masks_per_clip)
                if found.origins is not None:
                    _measure_public(public, batch, [found.origins[row] for row in rows], num_frames, masks_per_clip)
    finally:
        torch.set_num_threads(threads)
    result = _summary(manifest, len(found.rows), ours.seconds(), public.seconds())
    if workers:
        result["loader"] = {"workers": workers, "clips per second": _loader_rate(found, workers, batch_size)}
    if needed is not None:
        rate = result["ours"][_WHOLE]["clips per second"]
        result["recipe"] = {**needed, "workers per device": needed["clips per second and device"] / rate}
    return report(result, _table(result), out)


def clips_needed(recipe: str, step_seconds: float) -> dict[str, Any]:
    """Clips per second that the devices of a recipe take when a step lasts so long."""
    if step_seconds <= 0:
        raise ValueError(f"step_seconds must be positive, got {step_seconds}")
    try:
        with open(recipe, encoding="utf-8") as file:
            settings = yaml.safe_load(file)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{recipe} is no YAML file: {str(error).splitlines()[0]}") from None
    if not isinstance(settings, dict):
        raise ValueError(f"{recipe} holds no settings (trainer, data)")
    trainer = settings.get("trainer", {})
    devices = trainer.get("devices", 1)
    batch_size = settings.get("data", {}).get("init_args", {}).get("batch_size")
    if not isinstance(devices, int) or not isinstance(batch_size, int):
        raise ValueError(f"{recipe} must say trainer.devices and data.batch_size, got {devices} and {batch_size}")
    per_device = batch_size * trainer.get("accumulate_grad_batches", 1) / step_seconds
    return {
        "name": recipe,
        "step seconds": step_seconds,
        "devices x clips": f"{devices} x {batch_size}",
        "clips per second": per_device * devices,
        "clips per second and device": per_device,
    }


def _find(manifest: str, clips: int) -> Clips:
    if is_shard_folder(manifest):
        recordings: Recordings = read_labeled_shards(manifest)
        origins = [origin.as_py() for origin in read_index(manifest)[0]["origin"]]
    else:
        recordings = read_labeled(manifest)
        origins = [recordings.path(row) for row in range(len(recordings))]
    step = max(1, len(recordings) // clips)  # spread over all of them, as classes often stand together
    rows = list(range(0, len(recordings), step))[:clips]
    return Clips(recordings, origins if all(os.path.isfile(origins[row]) for row in rows) else None, rows)


def _measure_ours(
    clock: Clock, batch: int, recordings: Recordings, rows: list[int], num_frames: int, masks_per_clip: int
) -> None:
    with clock("read", batch):
        files = [(_file(recordings, row), recordings.path(row)) for row in rows]
    with clock("decode", batch):
        decoded = [decode_audio(*file) for file in files]
    with clock("resample", batch):
        waveforms = [resample(waveform, rate_hz, _RATE_HZ) for waveform, rate_hz in decoded]
    dataset = RecordingDataset(recordings, _RATE_HZ)
    for number, row in enumerate(rows):
        with clock(_WHOLE, (batch, number)):
            dataset[row]
    num_samples = torch.tensor([len(waveform) for waveform in waveforms])
    padded = torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True)
    with clock("log-mels", batch):
        LogMels(num_frames=num_frames)(padded, num_samples)
    with clock("masks", batch):
        keys = fold_in(clip_keys(torch.tensor(rows), seed=0, epoch=0).unsqueeze(1), torch.arange(masks_per_clip))
        InverseBlockMask().hidden(keys.flatten(), _grid(num_frames))


def _file(recordings: Recordings, row: int) -> bytes:
    if isinstance(recordings, PackedRecordings):
        return recordings.packed_file(row)
    with open_binary(recordings.path(row)) as file:
        return file.read()


def _measure_public(clock: Clock, batch: int, paths: list[str], num_frames: int, masks_per_clip: int) -> None:
    """One clip through all stages, then the next, as its workers do."""
    rng = np.random.default_rng(batch)
    for number, path in enumerate(paths):
        key = batch, number
        with clock(_WHOLE, key):
            with clock("read and decode", key):
                decoded = public_pipeline.read_clip(path)
            with clock("resample", key):
                waveform = public_pipeline.resample_clip(*decoded)
            with clock("log-mels", key):
                public_pipeline.log_mels_of_clip(waveform, num_frames)
            with clock("masks", key):
                public_pipeline.masks_of_clip(_grid(num_frames), masks_per_clip, rng)


def _grid(num_frames: int) -> Grid:
    return Grid(num_frames // _PATCH, 128 // _PATCH)


def _loader_rate(found: Clips, workers: int, batch_size: int) -> float:
    """Clips per second out of a loader, its start not counted."""
    rows = found.rows * max(2, 4 * workers * batch_size // len(found.rows))
    loader = DataLoader(
        RecordingDataset(found.recordings, _RATE_HZ),
        batch_size=batch_size,
        sampler=rows,
        num_workers=workers,
        collate_fn=collate,
    )
    batches = iter(loader)
    for _ in range(workers):  # each worker has begun
        next(batches)
    start, met = time.perf_counter(), 0
    for batch in batches:
        met += len(batch.names)
    return met / (time.perf_counter() - start)


def _summary(manifest: str, clips: int, ours: dict[str, float], public: dict[str, float]) -> dict[str, Any]:
    def rates(stages: dict[str, float]) -> dict[str, dict[str, float]]:
        return {
            stage: {"milliseconds": 1000 * seconds / clips, "clips per second": clips / seconds}
            for stage, seconds in stages.items()
        }

    ours[_ALL] = ours[_WHOLE] + sum(ours[stage] for stage in _BATCHED)
    result: dict[str, Any] = {
        "machine": f"{platform.machine()}, 1 thread",
        "torch": torch.__version__,
        "manifest": manifest,
        "clips": clips,
        "ours": rates(ours),
    }
    if public:
        result["public"] = rates(public)
        result["times the public pipeline"] = {part: public[_WHOLE] / ours[part] for part in (_WHOLE, _ALL)}
    return result


def _table(result: dict[str, Any]) -> Iterator[str]:
    yield f"{result['clips']} clips of {result['manifest']}; {result['machine']}, torch {result['torch']}"
    for title, name in (("ours", "ours"), ("public pipeline", "public")):
        if name in result:
            yield f"{title:<28}{'ms per clip':>12}{'clips per second':>20}"
        for stage, rate in result.get(name, {}).items():
            yield f"  {stage:<26}{rate['milliseconds']:>12.3f}{rate['clips per second']:>20.1f}"
    for part, ratio in result.get("times the public pipeline", {}).items():
        yield f"{ratio:.2f} times the public pipeline, {part}"
    if "public" not in result:
        yield "the public pipeline was left out: it reads files, and the clips' own are not on this machine"
    if loader := result.get("loader"):
        yield f"loader with {loader['workers']} workers: {loader['clips per second']:.1f} clips per second"
    if recipe := result.get("recipe"):
        yield (
            f"{recipe['name']}: {recipe['devices x clips']} clips in {recipe['step seconds']:g} s take "
            f"{recipe['clips per second']:.1f} clips per second: {recipe['workers per device']:.2f} such cores per device"
        )
