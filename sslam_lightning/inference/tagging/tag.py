"""Tags of many recordings, of long ones by window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from sslam_lightning.inference.encoding import EncoderModel
from sslam_lightning.inference.pipeline import Broken, EncodedWindow, EncodingPipeline
from sslam_lightning.inference.sources import Source
from sslam_lightning.inference.windowing import Windows


class Tagged(NamedTuple):
    """What is heard in a recording."""

    name: str
    path: Path
    seconds: float
    probs: Float[np.ndarray, "classes"]  # of the recording: the mean over windows, by their length
    starts_seconds: list[float]  # of the windows
    stops_seconds: list[float]
    timeline: Float[np.ndarray, "windows classes"]
    class_names: tuple[str, ...] = ()

    def best(self, top: int = 5) -> list[tuple[str, float]]:
        """The most probable classes with their probabilities; of equal ones, the first."""
        return [(name, prob) for _, name, prob in most_probable(self.probs, self.class_names, top)]


class Unreadable(NamedTuple):
    """A recording that cannot be used."""

    name: str
    reason: str


def most_probable(
    probs: Float[np.ndarray, "classes"], class_names: Sequence[str], top: int
) -> list[tuple[int, str, float]]:
    """Number, name and probability of the most probable classes; of equal ones, the first."""
    order = np.argsort(-probs, kind="stable")[:top]
    return [(int(number), class_names[number], float(probs[number])) for number in order]


def tag_recordings(
    model: EncoderModel,
    sources: Sequence[Source],
    windows: Windows | None = None,
    batch_size: int = 8,
    workers: int = 2,
    first: int = 0,
) -> Iterator[Tagged | Unreadable]:
    """Tags of one recording after the other; of each, only the probabilities of its windows are held.

    Args:
        model: a model with a head.
        sources: the recordings.
        windows: how long recordings are cut; None: as the model says.
        batch_size, workers: see :class:`~sslam_lightning.inference.pipeline.EncodingPipeline`.
        first: the recording to begin with.

    Raises:
        ValueError: the model has no head.
    """
    if model.head is None:
        raise ValueError(
            "the model has no classification head, so it cannot tell classes: fine-tune it, or use sslam embed"
        )
    windows = windows or model.windows()
    frame_seconds = model.framing.hop_samples * model.sample_seconds if model.framing else 0.0
    window_seconds = windows.window_frames * frame_seconds
    heard: list[tuple[float, int, np.ndarray]] = []  # start, weight and probabilities of every window
    for item in EncodingPipeline(model, windows, probs=True, batch_size=batch_size, workers=workers).run(sources, first):
        if isinstance(item, EncodedWindow):
            assert item.probs is not None
            heard.append((item.start_frame * frame_seconds, item.num_frames, item.probs.numpy()))
            continue
        source = sources[item.source]
        if isinstance(item, Broken):
            yield Unreadable(source.name, item.reason)
        else:
            starts, weights, rows = (list(column) for column in zip(*heard, strict=True))
            stops = [min(start + window_seconds, item.seconds) for start in starts]
            mean = np.average(rows, axis=0, weights=weights)
            yield Tagged(source.name, source.path, item.seconds, mean, starts, stops, np.stack(rows), model.class_names)
        heard = []
