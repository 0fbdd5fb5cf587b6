from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from sslam_lightning.data.manifests.class_map import read_class_table
from sslam_lightning.data.manifests.manifest import missing_rows, read_manifest
from sslam_lightning.data.manifests.recordings import class_balanced_weights


def test_reads_rows_and_labels(manifest: Path) -> None:
    recordings = read_manifest(manifest, table=read_class_table(manifest.with_name("classes.csv")))
    assert len(recordings) == 6
    assert recordings.names[2] == "sounds/clip2.wav"
    assert Path(recordings.path(2)) == manifest.parent / "audio" / "sounds" / "clip2.wav"
    assert [recordings.classes(i) for i in range(6)] == [[0, 2], [1], [2], [0, 2], [1], [2]]
    assert recordings.class_names == ("Ape", "Bee, buzzing", "Cat")


def test_unlabeled_needs_no_label_file(manifest: Path) -> None:
    manifest.with_suffix(".lbl").unlink()
    recordings = read_manifest(manifest)
    assert recordings.labels(0).shape == (0,)
    with pytest.raises(FileNotFoundError, match=r"label file .*train\.lbl does not exist"):
        read_manifest(manifest, table=read_class_table(manifest.with_name("classes.csv")))


def test_absolute_root_and_other_label_file(manifest: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (moved / "m.tsv").write_text(manifest.read_text().replace("audio\n", f"{tmp_path / 'audio'}\n", 1))
    table = read_class_table(tmp_path / "classes.csv")
    recordings = read_manifest(moved / "m.tsv", manifest.with_suffix(".lbl"), table)
    assert Path(recordings.path(0)).is_file()
    assert recordings.classes(1) == [1]


def test_a_missing_file_stops_or_goes_with_label_and_weight(manifest: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = read_class_table(manifest.with_name("classes.csv"))
    gone = manifest.parent / "audio" / "sounds" / "clip1.wav"
    gone.unlink()
    with pytest.raises(FileNotFoundError, match=r"train\.tsv: 1 of 6 files do not exist, the first is .*clip1\.wav"):
        read_manifest(manifest, table=table)
    with caplog.at_level(logging.WARNING):
        recordings = read_manifest(manifest, table=table, missing_files="skip")
    assert "1 of 6 files do not exist and are skipped" in caplog.text
    assert list(recordings.names) == [f"sounds/clip{i}.wav" for i in (0, 2, 3, 4, 5)]
    assert [recordings.classes(i) for i in range(5)] == [[0, 2], [2], [0, 2], [1], [2]]
    ape, bee, cat = 1000 / 2.01, 1000 / 1.01, 1000 / 4.01  # the bee that is left counts once
    expected = torch.tensor([ape + cat, cat, ape + cat, bee, cat], dtype=torch.float64)
    torch.testing.assert_close(class_balanced_weights(recordings), expected)


def test_nothing_left(manifest: Path) -> None:
    for path in (manifest.parent / "audio" / "sounds").iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError, match="6 of 6 files do not exist, so nothing is left"):
        read_manifest(manifest, missing_files="skip")


def test_missing_rows(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.wav").touch()
    assert missing_rows(str(tmp_path), ["a/1.wav", "a/2.wav", "b/1.wav", str(tmp_path / "a" / "1.wav")]) == {1, 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty manifest; its first line must be a header with a column 'path', or the root folder"),
        ("audio\n", "empty manifest; no rows behind the first line"),
        ("a.wav\t100\n", "line 1: expected the root folder or a header with a column 'path', got"),
        ("audio\nsounds/clip0.wav\t100\nclip1.wav 100\n", "line 3: expected 'path<TAB>samples', got 'clip1.wav 100'"),
        ("audio\nsounds/clip0.wav\tmany\n", "line 2: expected"),
    ],
)
def test_malformed_manifests(manifest: Path, text: str, message: str) -> None:
    manifest.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_manifest(manifest)


def test_absent_manifest_and_root(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"manifest .*none\.tsv does not exist"):
        read_manifest(tmp_path / "none.tsv")
    (tmp_path / "m.tsv").write_text("nowhere\na.wav\t1\n")
    with pytest.raises(FileNotFoundError, match=r"its root folder .*nowhere does not exist"):
        read_manifest(tmp_path / "m.tsv")
    with pytest.raises(ValueError, match="missing_files must be 'error' or 'skip', got 'maybe'"):
        read_manifest(tmp_path / "m.tsv", missing_files="maybe")  # type: ignore[arg-type]
