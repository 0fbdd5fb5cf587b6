"""What a recipe has to know of a data set: mean and deviation of its log-mels, its classes, how often to draw each clip."""

from __future__ import annotations

import json
from contextlib import closing
from math import sqrt
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sslam_lightning.data.audio import UnreadableAudio
from sslam_lightning.data.durable import new_file, refuse_existing
from sslam_lightning.data.journal import Journal, fingerprint
from sslam_lightning.data.parallel import ordered_map, progress
from sslam_lightning.data.recordings import Recordings, make_recordings
from sslam_lightning.data.rejected import Rejected, write_rejected
from sslam_lightning.data.resample import check_resampler, resample
from sslam_lightning.data.sampling_weights import write_weights
from sslam_lightning.data.tables import write_table
from sslam_lightning.features import LogMels, count_frames, kaldi_fbank
from sslam_lightning.types import ResamplerName

_CHUNK_CLIPS = 32  # always the same, so that the result does not depend on the number of workers


class FrontEnd(NamedTuple):
    """How waveforms are made and become log-mels."""

    sample_rate_hz: int = 16000
    num_mels: int = 128
    resampler: ResamplerName = "torchaudio"
    max_clip_seconds: float | None = None

    def check(self) -> None:
        """Raise ValueError for a setting out of its range."""
        check_resampler(self.resampler)
        LogMels(sample_rate_hz=self.sample_rate_hz, num_mels=self.num_mels)
        if self.max_clip_seconds is not None and self.max_clip_seconds <= 0:
            raise ValueError(f"max_clip_seconds must be positive, got {self.max_clip_seconds:g}")


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


class _Work(NamedTuple):
    recordings: Recordings
    front_end: FrontEnd


def measure(recordings: Recordings, front_end: FrontEnd, journal_path: str, workers: int = 0) -> Statistics:
    """Read every recording once and gather the moments of its log-mels over the frames that it has (never over padding).

    Args:
        recordings: with their labels as class names.
        front_end: that of the recipe.
        journal_path: an interrupted measurement goes on from it; removed at the end.
        workers: processes; the result is the same for any number.

    Raises:
        ValueError: a setting out of its range, or nothing could be read.
        FileExistsError: the journal is of other recordings or settings.
    """
    front_end.check()
    settings = {"recordings": fingerprint([recordings.root], recordings.names), **front_end._asdict()}
    journal = Journal(journal_path, settings)
    chunks = range(journal.num_done, -(-len(recordings) // _CHUNK_CLIPS))
    done = min(journal.num_done * _CHUNK_CLIPS, len(recordings))
    with closing(journal), progress(len(recordings), "stats", done=done) as bar:
        for number, result in enumerate(ordered_map(_measure_chunk, _Work(recordings, front_end), chunks, workers)):
            journal.append(result)
            bar.update(len(_rows(chunks[number], recordings)))
    moments, seconds, rejected = Moments(), 0.0, {}
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


def _rows(chunk: int, recordings: Recordings) -> range:
    return range(chunk * _CHUNK_CLIPS, min((chunk + 1) * _CHUNK_CLIPS, len(recordings)))


def _measure_chunk(work: _Work, chunk: int) -> tuple[Moments, float, list[tuple[int, str]]]:
    recordings, front_end = work.recordings, work.front_end
    moments, seconds, rejected = Moments(), 0.0, []
    for row in _rows(chunk, recordings):
        try:
            waveform, rate_hz = recordings.read(row, front_end.max_clip_seconds)
        except UnreadableAudio as error:
            rejected.append((row, str(error)))
            continue
        waveform = resample(waveform, rate_hz, front_end.sample_rate_hz, front_end.resampler)
        if front_end.max_clip_seconds is not None:
            waveform = waveform[: round(front_end.max_clip_seconds * front_end.sample_rate_hz)]
        if count_frames(len(waveform), front_end.sample_rate_hz) == 0:
            rejected.append((row, f"{recordings.path(row)}: too short for one frame of 25 ms"))
            continue
        seconds += len(waveform) / front_end.sample_rate_hz
        moments = moments.joined(log_mel_moments(waveform, front_end))
    return moments, seconds, rejected


def log_mel_moments(waveform: Float[Tensor, "samples"], front_end: FrontEnd) -> Moments:
    """Of one clip, centred as the front-end centres it, in float64."""
    centred = waveform - waveform.mean(dtype=torch.float64).float()
    log_mels = kaldi_fbank(centred[None], front_end.sample_rate_hz, front_end.num_mels).double()
    mean = log_mels.mean()
    return Moments(log_mels.numel(), float(mean), float((log_mels - mean).square().sum()))


def write_statistics(found: Statistics, source: str, out: str, front_end: FrontEnd) -> list[str]:
    """Write the overlay ``OUT.yaml``, and for labelled recordings ``OUT.classes.csv`` and ``OUT.weights.tsv``.

    The overlay is layered behind a recipe with ``--config``: it sets mean and std, and names the weights. Recordings that
    could not be read are listed in ``OUT.rejected.tsv``. The names of the files that were written come back.

    Raises:
        OSError: one of them exists, or cannot be written.
    """
    labelled = len(found.recordings.label_index) > 0
    overlay, classes, weights, rejected = output_paths(out)
    paths = [overlay, *[classes, weights] * labelled, *[rejected] * bool(found.rejected)]
    refuse_existing(*paths)
    settings: dict[str, Any] = {
        "model": {"init_args": {"features": {"mean": found.log_mels.mean, "std": found.log_mels.std}}}
    }
    if labelled:
        count, names = found.class_counts, found.recordings.class_names
        rows = ((i, name, name, n, 1000.0 / (n + 0.01)) for i, (name, n) in enumerate(zip(names, count, strict=True)))
        write_table(classes, ("index", "mid", "name", "count", "weight"), rows)
        write_weights(weights, found.recordings)
        settings["data"] = {"init_args": {"sampling_weights": weights}}
    if found.rejected:
        write_rejected(rejected, found.rejected)
    num_clips = len(found.recordings) - len(found.rejected)
    with new_file(overlay) as file:
        file.write(
            (
                f"# Overlay made by sslam data stats of {json.dumps(source)}: {num_clips} clips, "
                f"{found.num_seconds / 3600:.2f} hours, {len(found.rejected)} that cannot be read.\n"
                f"# Front-end: {json.dumps(front_end._asdict())}. Layer it behind a recipe: --config {overlay}\n"
                + _yaml(settings)
            ).encode("utf-8", "surrogateescape")
        )
    return paths


def output_paths(out: str) -> list[str]:
    """The files that `write_statistics` may write: overlay, classes, weights, the list of what could not be read."""
    stem = out.removesuffix(".yaml")
    return [f"{stem}.yaml", f"{stem}.classes.csv", f"{stem}.weights.tsv", f"{stem}.rejected.tsv"]


def _yaml(settings: dict[str, Any], depth: int = 0) -> str:
    """Nested settings as YAML; a JSON value is one."""
    lines = []
    for key, value in settings.items():
        nested = isinstance(value, dict)
        value = "\n" + _yaml(value, depth + 1) if nested else f" {json.dumps(value)}\n"
        lines.append(f"{'  ' * depth}{key}:{value}")
    return "".join(lines)
