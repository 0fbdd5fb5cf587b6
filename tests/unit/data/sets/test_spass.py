from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sslam_lightning.data import SPASSDataModule

ROWS = [("b.wav", "wind"), ("b.wav", "dog"), ("b.wav", "dog"), ("a.wav", "dog"), ("c.wav", "rain"), ("d.wav", "wind")]


def make(tmp_path: Path, write_sound: Callable[..., Path], table: str, folder: str) -> Path:
    path = tmp_path / "spass" / table
    path.parent.mkdir(parents=True)
    path.write_text("number,audio_filename,class\n" + "".join(f"{i},{a},{b}\n" for i, (a, b) in enumerate(ROWS)))
    for name in {name for name, _ in ROWS}:
        write_sound(f"spass/{folder}/{name}", seconds=0.05)
    return tmp_path / "spass"


@pytest.mark.parametrize(
    ("table", "folder"),
    [
        ("4_MatrixLabelsStreet.csv", "Street audio files"),
        ("SPASS_META_DATA/4_MatrixLabelsStreet.csv", "Street_audio_files"),
    ],
)
def test_a_scene(tmp_path: Path, write_sound: Callable[..., Path], table: str, folder: str) -> None:
    data = SPASSDataModule(make(tmp_path, write_sound, table, folder), scene="street", num_workers=0, batch_size=8)
    assert (data.class_names, data.multi_label) == (("dog", "rain", "wind"), True)
    train = data.dataset("train").recordings
    assert list(train.names) == ["a.wav", "b.wav", "c.wav"]  # three quarters in the order of the names
    assert [train.classes(i) for i in range(3)] == [[0], [0, 2], [1]]
    (batch,) = data.test_dataloader()
    assert batch.names == ("d.wav",)
    assert batch.labels.tolist() == [[0, 0, 1]]


def test_what_is_missing_is_said(tmp_path: Path, write_sound: Callable[..., Path]) -> None:
    root = make(tmp_path, write_sound, "1_MatrixLabelsMarket.csv", "Market audio files")
    with pytest.raises(ValueError, match="scene must be one of market, park, square, street, waterfront, got 'beach'"):
        SPASSDataModule(root, scene="beach")
    with pytest.raises(FileNotFoundError, match=r"2_MatrixLabelsPark\.csv does not exist: a scene of SPASS is 2_Matrix"):
        SPASSDataModule(root, scene="park")
    (root / "Market audio files/c.wav").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 4 files do not exist, the first is .*Market audio files/c\.wav"):
        SPASSDataModule(root, scene="market")
    (root / "Market audio files").rename(root / "sounds")
    with pytest.raises(
        FileNotFoundError, match=r"no folder .*Market audio files or .*Market_audio_files: a scene of SPASS"
    ):
        SPASSDataModule(root, scene="market")
    (root / "sounds").rename(root / "Market_audio_files")
    table = root / "1_MatrixLabelsMarket.csv"
    table.write_text("file,class\na.wav,dog\n")
    with pytest.raises(ValueError, match="no column audio_filename among file, class"):
        SPASSDataModule(root, scene="market")
    table.write_text("audio_filename,class\na.wav,\n")
    with pytest.raises(ValueError, match="line 2: audio_filename and class must not be empty"):
        SPASSDataModule(root, scene="market")
