"""U4: manifests whose clips are of exactly one class, by one setting of the data."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from sslam_lightning.data import AudioSetDataModule
from sslam_lightning.data.manifests.manifest import read_labeled
from sslam_lightning.data.manifests.segments import Segment
from sslam_lightning.data.modules.labeled import LabeledClip, LabeledDataModule
from sslam_lightning.data.shards.pack import Packing, pack

HEADER = "path\tlabels\n"


@pytest.fixture
def table(manifest: Path) -> Path:
    """The six clips as a table, clip i of class i % 3."""
    rows = [f"audio/sounds/clip{i}.wav\t{'/m/' + 'abc'[i % 3]}\n" for i in range(6)]
    path = manifest.with_name("table.tsv")
    path.write_text(HEADER + "".join(rows))
    return path


def _data(manifest: Path, **settings: Any) -> AudioSetDataModule:
    classes = manifest.with_name("classes.csv")
    return AudioSetDataModule(manifest, class_map=classes, multi_label=False, num_workers=0, batch_size=6, **settings)


def test_every_clip_of_one_class(table: Path) -> None:
    """U4: one label a clip is what cross entropy takes."""
    data = _data(table)
    assert (data.multi_label, data.num_classes) == (False, 3)
    (batch,) = data.train_dataloader()
    assert batch.labels.sum(dim=1).tolist() == [1.0] * 6


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("/m/b;/m/c", "has 2 labels (Bee, buzzing; Cat)"),
        ("", "has 0 labels (none)"),
    ],
)
def test_other_rows_of_a_table_are_refused(table: Path, written: str, told: str) -> None:
    lines = table.read_text().splitlines()
    lines[3] = f"audio/sounds/clip2.wav\t{written}"
    table.write_text("\n".join(lines) + "\n")
    message = f"the train clip audio/sounds/clip2.wav {told}, but with multi_label: false every clip has exactly one"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        _data(table).setup("fit")


def test_rows_of_a_label_file_are_refused(manifest: Path) -> None:
    """U4: clips 0 and 3 have two labels."""
    with pytest.raises(ValueError, match=r"^the train clip sounds/clip0\.wav has 2 labels \(Ape; Cat\), .*2 of 6 clips"):
        _data(manifest).setup("fit")


def test_shards_are_refused(manifest: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    pack(read_labeled(manifest), str(tmp_path / "shards"), Packing(codec="original"))
    data = AudioSetDataModule(tmp_path / "shards", class_map=tmp_path / "classes.csv", multi_label=False)
    with pytest.raises(ValueError, match=r"the train clip sounds/clip0\.wav has 2 labels \(Ape; Cat\)"):
        data.setup("fit")


def test_one_label_needs_labels(manifest: Path) -> None:
    with pytest.raises(ValueError, match="multi_label: false is about labels, and there are none: set class_map"):
        AudioSetDataModule(manifest, multi_label=False)


class _Twice(LabeledDataModule):
    def labeled(self, split: Any) -> list[LabeledClip]:
        return [LabeledClip(Segment("a.wav"), ["dog", "cat"])]


def test_data_sets_of_one_class_refuse_two_alike() -> None:
    data = _Twice(Path(), ["cat", "dog"], multi_label=False)
    with pytest.raises(ValueError, match=r"the train clip a\.wav has 2 labels \(cat; dog\)"):
        data.make_dataset("train")
    assert _Twice(Path(), ["cat", "dog"], multi_label=True).make_dataset("train").recordings.classes(0) == [0, 1]
