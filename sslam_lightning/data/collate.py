"""From clips of different lengths to one batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.utils.rnn import pad_sequence

from sslam_lightning.data.dataset import BrokenClip
from sslam_lightning.types import Batch, Clip, Events


def collate(clips: Sequence[Clip | BrokenClip], min_samples: int = 1, needed_by: str = "the model") -> Batch:
    """Pad with zeros behind each clip's end to the longest; leave out broken clips together with their labels.

    A clip of fewer than ``min_samples`` samples, ``needed_by`` whatever asks for them, counts as broken. The broken ones
    are told in ``Batch.broken``, so that the main process hears of what a worker met. Where no clip can be read the batch
    is empty; how many broken clips are too many is not decided here.
    """
    clips = [_long_enough(clip, min_samples, needed_by) for clip in clips]
    good = [clip for clip in clips if isinstance(clip, Clip)]
    broken = tuple((clip.name, clip.reason) for clip in clips if isinstance(clip, BrokenClip))
    if not good:
        nothing = torch.zeros(0, 1, dtype=torch.float32, device="cpu")
        return Batch(nothing, (), nothing[:, :0], torch.zeros(0, dtype=torch.int64, device="cpu"), (), broken)
    lengths = [len(clip.waveform) for clip in good]
    waveforms = torch.zeros(len(good), max(lengths), dtype=torch.float32, device="cpu")
    for row, clip in zip(waveforms, good, strict=True):
        row[: len(clip.waveform)] = clip.waveform
    return Batch(
        waveforms,
        lengths,
        torch.stack([clip.labels for clip in good]),
        torch.tensor([clip.clip_index for clip in good], device="cpu"),
        tuple(clip.name for clip in good),
        broken,
        _padded([clip.events for clip in good if clip.events is not None]),
    )


def _padded(events: Sequence[Events]) -> Events | None:
    """One table of all clips' sounds, a row a clip, filled up with sounds of no length; None where no clip tells any."""
    if not events:
        return None
    return Events(*(pad_sequence(list(column), batch_first=True) for column in zip(*events, strict=True)))


def _long_enough(clip: Clip | BrokenClip, min_samples: int, needed_by: str) -> Clip | BrokenClip:
    if isinstance(clip, BrokenClip) or len(clip.waveform) >= min_samples:
        return clip
    return BrokenClip(
        clip.name, f"{clip.name}: too short, {len(clip.waveform)} samples where {needed_by} needs {min_samples}"
    )
