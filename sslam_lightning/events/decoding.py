"""From probabilities of frames to events: a threshold, a median filter, and a least length."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from sslam_lightning.events.frames import frames_to_events
from sslam_lightning.types import Event

_ROUNDING_SECONDS = 1e-6


@dataclass(frozen=True)
class EventDecoding:
    """How events are read off the probabilities of frames.

    Args:
        threshold: a class is active in frames whose probability is above it.
        median_seconds: length of the median filter on the active frames, rounded to an odd number of them; it fills short
            gaps and takes out short runs. 0: none.
        min_seconds: shorter events are left out.
    """

    threshold: float = 0.5
    median_seconds: float = 0.0
    min_seconds: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < 1:
            raise ValueError(f"decoding: threshold must lie in [0, 1), got {self.threshold}")
        if self.median_seconds < 0 or self.min_seconds < 0:
            raise ValueError(f"decoding: median_seconds and min_seconds must not be negative, got {self}")

    def active(self, probabilities: Float[Tensor, "*clips frames classes"]) -> Bool[Tensor, "*clips frames classes"]:
        """Frames above the threshold. The median filter may follow: it commutes with a threshold."""
        return probabilities > self.threshold

    def events(
        self, active: Bool[Tensor, "frames classes"], frame_seconds: float, class_names: tuple[str, ...]
    ) -> list[Event]:
        """The events of a whole recording."""
        smooth = median_filter(active, self.median_frames(frame_seconds))
        class_index, onset, offset = frames_to_events(smooth, frame_seconds)
        long = offset - onset >= self.min_seconds - _ROUNDING_SECONDS
        columns = (column[long].tolist() for column in (onset, offset, class_index))
        return [Event(start, end, class_names[number]) for start, end, number in zip(*columns, strict=True)]

    def median_frames(self, frame_seconds: float) -> int:
        """The odd number of frames nearest to the median filter's length."""
        return 2 * round((self.median_seconds / frame_seconds - 1) / 2) + 1 if self.median_seconds > frame_seconds else 1


def median_filter(active: Bool[Tensor, "frames classes"], width: int) -> Bool[Tensor, "frames classes"]:
    """What most of the ``width`` frames around a frame are; the first and the last frame go on beyond the ends."""
    if width == 1 or len(active) == 0:
        return active
    padded = F.pad(active.T.float().unsqueeze(0), (width // 2, width // 2), mode="replicate")
    return F.avg_pool1d(padded, width, stride=1).squeeze(0).T > 0.5
