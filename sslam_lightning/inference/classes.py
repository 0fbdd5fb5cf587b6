"""What a head's outputs are called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sslam_lightning.data.descriptors import read_class_table

_AUDIOSET = Path(__file__).with_name("audioset_classes.csv")
_NUM_AUDIOSET_CLASSES = 527


def audioset_classes() -> tuple[str, ...]:
    """The names of AudioSet's 527 classes, in the order in which all models number them."""
    return read_class_table(_AUDIOSET).names


def class_names_of(num_classes: int, recorded: Sequence[str] = ()) -> tuple[str, ...]:
    """The names that a checkpoint records; else AudioSet's for as many classes; else numbers."""
    if len(recorded) == num_classes:
        return tuple(recorded)
    if num_classes == _NUM_AUDIOSET_CLASSES:
        return audioset_classes()
    return tuple(f"class {number}" for number in range(num_classes))
