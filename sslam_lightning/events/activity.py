"""Which frames of which clips are active, collected over batches and ranks, and put together to whole recordings."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchmetrics import Metric


class Activity(NamedTuple):
    """Clips that were seen, and what was active in them."""

    clips: Int[Tensor, "clips 2"]  # place in the data set, number of frames
    cells: Int[Tensor, "cells 3"]  # place in the data set, frame, class


class FrameActivity(Metric):
    """Collects active frames as a list of them, which is short: most classes are silent most of the time."""

    full_state_update = False
    clips: list[Tensor]
    cells: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("clips", [], dist_reduce_fx="cat")
        self.add_state("cells", [], dist_reduce_fx="cat")

    def update(
        self, index: Int[Tensor, "clips"], num_frames: Int[Tensor, "clips"], active: Bool[Tensor, "clips frames classes"]
    ) -> None:
        """Remember a batch; frames behind a clip's ``num_frames`` do not count."""
        inside = torch.arange(active.shape[1], device=active.device) < num_frames.unsqueeze(1)
        row, frame, class_index = (active & inside.unsqueeze(2)).nonzero(as_tuple=True)
        self.clips.append(torch.stack([index, num_frames.to(index.dtype)], dim=1))
        self.cells.append(torch.stack([index[row], frame, class_index], dim=1))

    def compute(self) -> Activity:
        """Everything since the last reset, of all ranks."""
        # After a synchronization over ranks torchmetrics leaves one tensor where a list was.
        return Activity(*(state if isinstance(state, Tensor) else torch.cat(state) for state in self._never_empty()))

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gather from all ranks; one without a single clip takes part with empty tables."""
        self.clips, self.cells = self._never_empty()
        super().sync(*args, **kwargs)

    def _never_empty(self) -> tuple[list[Tensor], list[Tensor]]:
        if len(self.clips) > 0:
            return self.clips, self.cells
        nothing = torch.zeros(0, dtype=torch.int64, device=self.device)
        return [nothing.view(0, 2)], [nothing.view(0, 3)]


def join_clips(
    activity: Activity,
    file_of: Int[np.ndarray, "clips"],
    start_seconds: Float[np.ndarray, "clips"],
    frame_seconds: float,
    num_classes: int,
) -> dict[int, Bool[Tensor, "frames classes"]]:
    """The active frames of whole recordings, by their number; where clips overlap, what either of them says is active.

    A recording of which a clip was not seen, as its file is broken or the evaluation was cut short, is left out.

    Args:
        activity: what was seen.
        file_of: the recording that every clip of the data set is a part of.
        start_seconds: where in it every clip begins.
        frame_seconds: length of a frame.
        num_classes: number of classes.
    """
    clip, length = activity.clips.cpu().numpy().T
    first_frame = np.round(start_seconds / frame_seconds).astype(np.int64)
    num_frames = np.zeros(int(file_of.max(initial=-1)) + 1, dtype=np.int64)
    np.maximum.at(num_frames, file_of[clip], first_frame[clip] + length)
    unseen = np.ones(len(file_of), dtype=bool)
    unseen[clip] = False
    whole = np.setdiff1d(file_of, file_of[unseen])
    cells = activity.cells.cpu().numpy()
    cells = cells[np.argsort(file_of[cells[:, 0]], kind="stable")]
    bounds = np.searchsorted(file_of[cells[:, 0]], [whole, whole + 1])
    recordings = {}
    for file, first, behind in zip(whole.tolist(), *bounds.tolist(), strict=True):
        place, frame, class_index = cells[first:behind].T
        active = torch.zeros(int(num_frames[file]), num_classes, dtype=torch.bool, device="cpu")
        active[torch.from_numpy(first_frame[place] + frame), torch.from_numpy(class_index)] = True
        recordings[file] = active
    return recordings
