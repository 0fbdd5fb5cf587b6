from __future__ import annotations

from pathlib import Path

import pytest

from sslam_lightning.data import Labelled, LabelledDataModule
from sslam_lightning.data.excerpts import Excerpt
from sslam_lightning.data.module import Split


class Birds(LabelledDataModule):
    """A crow to train on, and a kite that only the test split knows."""

    def labelled(self, split: Split) -> list[Labelled]:
        return [Labelled(Excerpt(f"{split}/a.wav"), ["kite" if split == "test" else "crow"])]


def test_a_label_that_is_no_class() -> None:
    data = Birds(Path("birds"), ["crow", "owl"], multi_label=False, num_workers=0)
    assert data.dataset("train").recordings.classes(0) == [0]
    with pytest.raises(ValueError, match=r"^test/a\.wav: the label 'kite' is none of the 2 classes \(crow, owl\)$"):
        data.setup("test")
