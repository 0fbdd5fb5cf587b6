"""Recordings of a folder whose classes are known by name: what the tagged and classified public data sets share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sslam_lightning.data.dataset import RecordingDataset
from sslam_lightning.data.excerpts import Excerpt, make_excerpts
from sslam_lightning.data.module import AudioDataModule, Split


class Labelled(NamedTuple):
    """A file, or a part of one, and the classes that it is of."""

    clip: Excerpt
    labels: Sequence[str]


class LabelledDataModule(AudioDataModule):
    """Base of data sets that tell the classes of their files; a subclass says which there are in `labelled`.

    Args:
        root: folder that the files' names are relative to.
        class_names: of the labels.
        multi_label: whether a clip may be of several classes at once.
        options: settings of `AudioDataModule`.
    """

    def __init__(self, root: Path, class_names: Sequence[str], multi_label: bool, **options: Any) -> None:
        super().__init__(class_names=class_names, multi_label=multi_label, **options)
        self.root = root

    @abstractmethod
    def labelled(self, split: Split) -> Sequence[Labelled]:
        """The clips of a split."""

    def make_dataset(self, split: Split) -> RecordingDataset:
        """The clips of a split as recordings.

        Raises:
            ValueError: a label that is none of the classes, or several where a clip is of one.
        """
        class_of = {name: number for number, name in enumerate(self.class_names)}
        rows = self.labelled(split)
        for clip, labels in rows:
            if unknown := [label for label in labels if label not in class_of]:
                known = ", ".join(self.class_names[:10])
                raise ValueError(f"{clip.name}: the label {unknown[0]!r} is none of the {len(class_of)} classes ({known})")
            if not self.multi_label and len(labels) != 1:
                raise ValueError(f"{clip.name}: expected one label, got {len(labels)}: {', '.join(labels) or 'none'}")
        classes = [sorted(class_of[label] for label in row.labels) for row in rows]
        excerpts = make_excerpts(str(self.root), [row.clip for row in rows], classes, self.class_names)
        return RecordingDataset(excerpts, self.sample_rate_hz, self.resampler, self.max_clip_seconds)
