"""The second form of manifests, a table with a header; and large ones."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from sslam_lightning.data.manifests.class_map import read_class_table
from sslam_lightning.data.manifests.manifest import read_labeled, read_manifest


@pytest.mark.parametrize(("extension", "separator"), [(".tsv", "\t"), (".csv", ",")])
def test_a_table_with_a_header(manifest: Path, extension: str, separator: str) -> None:
    rows = [["seconds", "Path", "labels"]] + [
        ["1.0", f"audio/sounds/clip{i}.wav", "/m/c; /m/a;" if i else ""] for i in range(6)
    ]
    table = manifest.with_name(f"table{extension}")
    table.write_text("\ufeff" + "\r\n".join(separator.join(row) for row in rows) + "\r\n", encoding="utf-8")
    recordings = read_manifest(table, table=read_class_table(manifest.with_name("classes.csv")))
    assert list(recordings.names) == [f"audio/sounds/clip{i}.wav" for i in range(6)]
    assert [recordings.classes(i) for i in (0, 1, 5)] == [[], [0, 2], [0, 2]]
    assert read_labeled(table).class_names == ("/m/a", "/m/c")
    table.with_suffix(".lbl").write_text("".join(f"clip{i}\t/m/b\n" for i in range(6)))
    other = read_manifest(table, table.with_suffix(".lbl"), read_class_table(manifest.with_name("classes.csv")))
    assert [other.classes(i) for i in (0, 5)] == [[1], [1]]  # a label file that is named wins


def test_a_missing_file_takes_its_label_with_it(manifest: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = manifest.with_name("t.csv")
    table.write_text("path,labels\n" + "".join(f"audio/sounds/clip{i}.wav,/m/{'abc'[i % 3]}\n" for i in range(6)))
    (manifest.parent / "audio/sounds/clip1.wav").unlink()
    with caplog.at_level(logging.WARNING):
        recordings = read_manifest(table, table=read_class_table(manifest.with_name("classes.csv")), missing_files="skip")
    assert "1 of 6 files do not exist and are skipped" in caplog.text
    assert [recordings.classes(i) for i in range(5)] == [[0], [2], [0], [1], [2]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,labels\na.wav\n", "line 2: expected path,labels, got 'a.wav'"),
        ("path,labels\na.wav,x\n,y\n", "line 3: expected path,labels, got ',y'"),
        ("path,labels\n", "empty manifest; no rows behind the first line"),
        ("path,labels\nsounds/clip0.wav,/m/zebra\n", "label '/m/zebra' of sounds/clip0.wav is not among"),
    ],
)
def test_malformed_tables(manifest: Path, text: str, message: str) -> None:
    table = manifest.parent / "audio" / "t.csv"
    table.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_manifest(table, table=read_class_table(manifest.with_name("classes.csv")))


def test_labels_that_no_table_knows(manifest: Path) -> None:
    recordings = read_labeled(manifest)
    assert recordings.class_names == ("/m/a", "/m/b", "/m/c")
    assert [recordings.classes(i) for i in range(3)] == [[0, 2], [1], [2]]
    manifest.with_suffix(".lbl").unlink()
    assert read_labeled(manifest).class_names == ()
