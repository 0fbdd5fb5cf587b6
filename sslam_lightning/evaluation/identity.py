"""Which clip of which recording a clip is, so that clips of several splits, folds and runs can be compared."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable

from sslam_lightning.data.loading.dataset import ClipDataset, RecordingDataset
from sslam_lightning.data.loading.event_dataset import EventDataset
from sslam_lightning.data.manifests.segments import Excerpts
from sslam_lightning.data.modules.mixtures import MixtureDataset


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


def digest_of_clips(dataset: ClipDataset) -> str:
    """Which clips there are, in their order, with their labels and events; of mixtures, what is mixed.

    Nothing of their sound is read, and clips that are made up are told by their settings alone.
    """
    source = dataset.clips if isinstance(dataset, MixtureDataset) else dataset
    digest = hashlib.sha256(source.fingerprint().encode())
    if isinstance(source, RecordingDataset):
        recordings = source.recordings
        digest.update("\0".join(recordings.class_names).encode("utf-8", "surrogateescape"))
        columns = [recordings.label_start, recordings.label_index]
        if isinstance(recordings, Excerpts):
            columns += [recordings.start_seconds, recordings.length_seconds]
        for column in columns:
            digest.update(column.tobytes())
    if isinstance(source, EventDataset):
        for file in range(len(source.places.files)):
            digest.update(repr([tuple(event) for event in source.events(file)]).encode())
    return f"{len(dataset)} clips, {digest.hexdigest()[:16]}"
