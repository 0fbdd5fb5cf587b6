"""Between events (onset, offset, class) and frames, for a whole batch at once.

Frame t covers the time from ``t`` to ``t + 1`` times the seconds of a frame.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sslam_lightning.types import Events


def frame_labels(
    events: Events,
    num_frames: int,
    num_classes: int,
    frame_seconds: float,
    rounding: Literal["nearest", "outward"] = "nearest",
) -> Float[Tensor, "clips frames classes"]:
    """1 in the frames in which a class is heard, 0 elsewhere. What lies behind the last frame is cut off.

    Args:
        events: of every clip, filled up with events of no length, which leave no trace.
        num_frames: of every clip.
        num_classes: number of classes.
        frame_seconds: length of a frame.
        rounding: ``nearest``: onset and offset go to the nearest border between frames, but an event has at least the frame
            that its middle lies in; ``outward``: every frame that an event touches.
    """
    onset, offset = events.onset_seconds / frame_seconds, events.offset_seconds / frame_seconds
    if rounding == "outward":
        first, last = onset.floor(), offset.ceil()
    else:
        first, last = onset.round(), offset.round()
        short = first == last
        middle = ((onset + offset) / 2).floor()
        first, last = torch.where(short, middle, first), torch.where(short, middle + 1, last)
    # Where an event begins one more is heard, where it ends one less; the running sum counts how many are.
    changes = torch.zeros(len(onset), num_frames + 1, num_classes, dtype=torch.float32, device=onset.device)
    clip = torch.arange(len(onset), device=onset.device).unsqueeze(1).expand_as(events.class_index)
    heard = (events.offset_seconds > events.onset_seconds).float()
    for border, step in ((first, heard), (last, -heard)):
        changes.index_put_((clip, border.long().clamp(0, num_frames), events.class_index), step, accumulate=True)
    return (changes.cumsum(dim=1)[:, :num_frames] > 0.5).float()


def frames_to_events(
    active: Bool[Tensor, "frames classes"], frame_seconds: float
) -> tuple[Int[Tensor, "events"], Float[Tensor, "events"], Float[Tensor, "events"]]:
    """Class, onset and offset in seconds of every unbroken run of active frames; class by class, in their order."""
    steps = F.pad(active.T.int(), (1, 1)).diff(dim=1)  # +1 where a run begins, -1 behind its last frame
    class_index, first = (steps == 1).nonzero(as_tuple=True)
    _, behind = (steps == -1).nonzero(as_tuple=True)
    return class_index, first.double() * frame_seconds, behind.double() * frame_seconds
