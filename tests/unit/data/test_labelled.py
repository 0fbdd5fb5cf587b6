from __future__ import annotations

from pathlib import Path

import pytest

from sslam_lightning.data import LabeledClip, LabeledDataModule
from sslam_lightning.data.manifests.segments import Segment
from sslam_lightning.data.modules.base import Split


class Birds(LabeledDataModule):
    """A crow to train on, and a kite that only the test split knows."""

    def labeled(self, split: Split) -> list[LabeledClip]:
        return [LabeledClip(Segment(f"{split}/a.wav"), ["kite" if split == "test" else "crow"])]


def test_a_label_that_is_no_class() -> None:
    data = Birds(Path("birds"), ["crow", "owl"], multi_label=False, num_workers=0)
    assert data.dataset("train").recordings.classes(0) == [0]
    with pytest.raises(ValueError, match=r"^test/a\.wav: the label 'kite' is none of the 2 classes \(crow, owl\)$"):
        data.setup("test")
