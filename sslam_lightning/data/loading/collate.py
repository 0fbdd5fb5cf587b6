"""From clips of different lengths to one batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.utils.rnn import pad_sequence

from sslam_lightning.data.loading.dataset import BrokenClip
from sslam_lightning.types import Batch, Clip, Events


def collate(clips: Sequence[Clip | BrokenClip], min_samples: int = 1, needed_by: str = "the model") -> Batch:
    """Pad clips with zeros to the longest; leave out broken ones together with their labels.

    A clip of fewer than ``min_samples`` samples (``needed_by`` names whatever needs them) counts as broken. Broken clips
    are listed in ``Batch.broken`` for the main process. Where no clip can be read the batch is empty.
    """
    good, broken = [], []
    for clip in clips:
        if isinstance(clip, BrokenClip):
            broken.append((clip.name, clip.reason))
        elif (num_samples := len(clip.waveform)) < min_samples:
            broken.append(
                (clip.name, f"{clip.name}: too short, {num_samples} samples where {needed_by} needs {min_samples}")
            )
        else:
            good.append(clip)
    if not good:
        nothing = torch.zeros(0, 1, dtype=torch.float32, device="cpu")
        return Batch(nothing, (), nothing[:, :0], torch.zeros(0, dtype=torch.int64, device="cpu"), (), tuple(broken))
    return Batch(
        pad_sequence([clip.waveform for clip in good], batch_first=True),
        [len(clip.waveform) for clip in good],
        torch.stack([clip.labels for clip in good]),
        torch.tensor([clip.clip_index for clip in good], device="cpu"),
        tuple(clip.name for clip in good),
        tuple(broken),
        _padded([clip.events for clip in good if clip.events is not None]),
    )


def _padded(events: Sequence[Events]) -> Events | None:
    """The events of all clips, a row a clip, filled up with events of no length; None where no clip has any."""
    if not events:
        return None
    return Events(*(pad_sequence(list(column), batch_first=True) for column in zip(*events, strict=True)))
