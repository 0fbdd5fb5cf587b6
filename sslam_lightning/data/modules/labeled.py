"""Recordings of a folder with their classes by name: the base of the tagged and classified public data sets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sslam_lightning.data.manifests.recordings import Recordings
from sslam_lightning.data.manifests.segments import Segment, make_excerpts
from sslam_lightning.data.modules.base import AudioDataModule, Split


class LabeledClip(NamedTuple):
    """A file, or a part of one, and its classes."""

    clip: Segment
    labels: Sequence[str]


class LabeledDataModule(AudioDataModule, ABC):
    """Base of data sets with labeled files; a subclass lists them in `labeled`.

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
    def labeled(self, split: Split) -> Sequence[LabeledClip] | None:
        """The clips of a split; None where there are none."""

    def recordings(self, split: Split) -> Recordings | None:
        """The clips of a split as recordings; raises ValueError for a label that is none of the classes."""
        rows = self.labeled(split)
        if rows is None:
            return None
        class_of = {name: number for number, name in enumerate(self.class_names)}
        for clip, labels in rows:
            if unknown := [label for label in labels if label not in class_of]:
                known = ", ".join(self.class_names[:10])
                raise ValueError(f"{clip.name}: the label {unknown[0]!r} is none of the {len(class_of)} classes ({known})")
        classes = [sorted(class_of[label] for label in row.labels) for row in rows]
        return make_excerpts(str(self.root), [row.clip for row in rows], classes, self.class_names)
