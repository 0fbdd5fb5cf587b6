"""What a recipe has to know of a data set: mean and deviation of its log-mels, its classes, how often to draw each clip."""

from __future__ import annotations

import json
from contextlib import closing
from functools import partial
from math import sqrt
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from jaxtyping import Float, Int
from torch import Tensor

from sslam_lightning.data.loading.dataset import BrokenClip, RecordingDataset
from sslam_lightning.data.manifests.inspection import Rejected
from sslam_lightning.data.manifests.recordings import Recordings, make_recordings
from sslam_lightning.data.manifests.tables import write_table
from sslam_lightning.data.manifests.weights import write_weights
from sslam_lightning.data.progress_log import Journal
from sslam_lightning.features import LogMels, count_frames, kaldi_fbank
from sslam_lightning.runtime.atomic_write import new_file, refuse_existing
from sslam_lightning.types import ResamplerName

_CHUNK_CLIPS = 32  # always the same, so that the result does not depend on the number of workers


class FrontEnd(NamedTuple):
    """How waveforms are made and become log-mels."""

    sample_rate_hz: int = 16000
    num_mels: int = 128
    resampler: ResamplerName = "torchaudio"
    max_clip_seconds: float | None = None


class Moments(NamedTuple):
    """Of a set of numbers; two sets combine exactly (Chan, Golub and LeVeque, 1979)."""

    num_values: int = 0
    mean: float = 0.0
    squares: float = 0.0  # sum of squared deviations from the mean

    def joined(self, other: Moments) -> Moments:
        """Moments of both sets together."""
        count = self.num_values + other.num_values
        if count == 0:
            return self
        step = other.mean - self.mean
        squares = self.squares + other.squares + step * step * self.num_values * other.num_values / count
        return Moments(count, self.mean + step * other.num_values / count, squares)

    @property
    def std(self) -> float:
        """Standard deviation of the set itself."""
        return sqrt(self.squares / self.num_values)


class Statistics(NamedTuple):
    """What `measure` found."""

    log_mels: Moments
    num_seconds: float
    recordings: Recordings  # those that cannot be read have lost their labels, so they count for nothing and weigh 0
    rejected: list[Rejected]

    @property
    def class_counts(self) -> Int[np.ndarray, "classes"]:
        """Readable recordings of every class."""
        return np.bincount(self.recordings.label_index, minlength=len(self.recordings.class_names))


def measure(recordings: Recordings, front_end: FrontEnd, journal_path: str, workers: int = 0) -> Statistics:
    """Read every recording once and gather the moments of its log-mels over the frames that it has (never over padding).

    The result is the same for any number of processes (``workers``). An interrupted measurement goes on from its journal,
    which is removed at the end. ValueError for a setting out of its range, or if nothing could be read.
    """
    LogMels(sample_rate_hz=front_end.sample_rate_hz, num_mels=front_end.num_mels)  # refuses what no model takes
    clips = RecordingDataset(recordings, front_end.sample_rate_hz, front_end.resampler, front_end.max_clip_seconds)
    settings = {"recordings": recordings.fingerprint(), **front_end._asdict()}
    moments, seconds, rejected = Moments(), 0.0, {}
    with closing(Journal(journal_path, settings)) as journal:
        journal.run(partial(_measure, clips, front_end), len(recordings), workers, "stats", chunk_rows=_CHUNK_CLIPS)
        for chunk_moments, chunk_seconds, chunk_rejected in journal.results():
            moments, seconds = moments.joined(Moments(*chunk_moments)), seconds + chunk_seconds
            rejected.update({row: Rejected(recordings.names[row], reason) for row, reason in chunk_rejected})
        journal.remove()
    if moments.num_values == 0:
        first = next(iter(rejected.values())).reason
        raise ValueError(f"none of the {len(recordings)} recordings could be measured; for example {first}")
    classes = [[] if row in rejected else recordings.classes(row) for row in range(len(recordings))]
    readable = make_recordings(recordings.root, recordings.names, classes, recordings.class_names)
    return Statistics(moments, seconds, readable, list(rejected.values()))


def _measure(clips: RecordingDataset, front_end: FrontEnd, first: int) -> tuple[Moments, float, list[tuple[int, str]]]:
    moments, seconds, rejected = Moments(), 0.0, []
    for row in range(first, min(first + _CHUNK_CLIPS, len(clips))):
        clip = clips[row]
        if isinstance(clip, BrokenClip):
            rejected.append((row, clip.reason))
        elif count_frames(len(clip.waveform), clips.sample_rate_hz) == 0:
            rejected.append((row, f"{clips.name(row)}: too short for one frame of 25 ms"))
        else:
            seconds += len(clip.waveform) / clips.sample_rate_hz
            moments = moments.joined(log_mel_moments(clip.waveform, front_end))
    return moments, seconds, rejected


def log_mel_moments(waveform: Float[Tensor, "samples"], front_end: FrontEnd) -> Moments:
    """Of one clip, centered as the front-end centers it, in float64."""
    centered = waveform - waveform.mean(dtype=torch.float64).float()
    log_mels = kaldi_fbank(centered[None], front_end.sample_rate_hz, front_end.num_mels).double()
    mean = log_mels.mean()
    return Moments(log_mels.numel(), float(mean), float((log_mels - mean).square().sum()))


def write_statistics(found: Statistics, source: str, out: str, front_end: FrontEnd) -> list[str]:
    """Write the overlay ``OUT.yaml``, and for labeled recordings ``OUT.classes.csv`` and ``OUT.weights.tsv``.

    The overlay goes behind a recipe with ``--config``: it sets mean and std, and names the weights. Recordings that could
    not be read are listed in ``OUT.rejected.tsv``. Returns the names of the files; OSError if one of them exists.
    """
    labeled = len(found.recordings.label_index) > 0
    overlay, classes, weights, rejected = output_paths(out)
    paths = [overlay, *[classes, weights] * labeled, *[rejected] * bool(found.rejected)]
    refuse_existing(*paths)
    features = {"mean": found.log_mels.mean, "std": found.log_mels.std}
    settings: dict[str, Any] = {"model": {"init_args": {"features": features}}}
    if labeled:
        count, names = found.class_counts, found.recordings.class_names
        rows = ((i, name, name, n, 1000.0 / (n + 0.01)) for i, (name, n) in enumerate(zip(names, count, strict=True)))
        write_table(classes, ("index", "mid", "name", "count", "weight"), rows)
        write_weights(weights, found.recordings)
        settings["data"] = {"init_args": {"sampling_weights": weights}}
    if found.rejected:
        write_table(rejected, Rejected._fields, found.rejected)
    num_clips = len(found.recordings) - len(found.rejected)
    text = (
        f"# Overlay made by sslam data stats of {json.dumps(source)}: {num_clips} clips, "
        f"{found.num_seconds / 3600:.2f} hours, {len(found.rejected)} that cannot be read.\n"
        f"# Front-end: {json.dumps(front_end._asdict())}. Layer it behind a recipe: --config {overlay}\n"
        + yaml.safe_dump(settings, sort_keys=False)
    )
    with new_file(overlay) as file:
        file.write(text.encode("utf-8", "surrogateescape"))
    return paths


def output_paths(out: str) -> list[str]:
    """The files that `write_statistics` may write: overlay, classes, weights, the list of what could not be read."""
    stem = out.removesuffix(".yaml")
    return [f"{stem}.yaml", f"{stem}.classes.csv", f"{stem}.weights.tsv", f"{stem}.rejected.tsv"]
