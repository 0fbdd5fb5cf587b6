"""Which clip of which recording a clip is, so that clips of several splits and folds can be compared."""

from __future__ import annotations

from collections.abc import Hashable

from sslam_lightning.data.dataset import ClipDataset, RecordingDataset
from sslam_lightning.data.excerpts import Excerpts
from sslam_lightning.data.mixtures import MixtureDataset


def clip_key(dataset: ClipDataset, index: int) -> Hashable:
    """What tells a clip from others: its name, and of an excerpt where it lies, of a mixture how loud its parts are."""
    name = dataset.name(index)
    if isinstance(dataset, MixtureDataset):
        return name, dataset.parts(index)[2]
    if isinstance(dataset, RecordingDataset) and isinstance(dataset.recordings, Excerpts):
        recordings = dataset.recordings
        return name, float(recordings.start_seconds[index]), float(recordings.length_seconds[index])
    return name


def known_clips(dataset: ClipDataset) -> set[Hashable]:
    """The clips of a split, of mixtures what is mixed; none where names are mere numbers, the same in every split."""
    if isinstance(dataset, MixtureDataset):
        dataset = dataset.clips
    if type(dataset).name is ClipDataset.name:
        return set()
    return {clip_key(dataset, index) for index in range(len(dataset))}
