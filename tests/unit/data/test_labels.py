from __future__ import annotations

from pathlib import Path

import pytest

from sslam_lightning.data.manifests.class_map import ClassTable
from sslam_lightning.data.manifests.labels import read_labels, with_labels
from sslam_lightning.data.manifests.recordings import make_recordings

TABLE = ClassTable(("A", "B", "C"), {"a": 0, "b": 1, "c": 2, "A": 0, "B": 1, "C": 2})


def read(folder: Path, text: str, names: list[str]) -> list[list[int]]:
    (folder / "train.lbl").write_text(text)
    return list(read_labels(folder / "train.lbl", names, TABLE))


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        ("x/one.wav", "x/one.wav"),
        ("x/one", "x/one.wav"),
        ("one", "x/one.wav"),
        ("one.flac", "x/one.wav"),
        ("x/one.wav", "one.wav"),
        ("/data/x/one.wav", "x/one.wav"),
        ("-0SdAVK79lg", "Y-0SdAVK79lg.wav"),  # YouTube ids with and without the downloader's Y
        ("-0SdAVK79lg_30.000", "x/-0SdAVK79lg_30.000.flac"),  # a dot that is no extension
    ],
)
def test_finds_a_recording(tmp_path: Path, entry: str, name: str) -> None:
    assert read(tmp_path, f"other\ta\n{entry}\tc,a\n", [name]) == [[0, 2]]


def test_order_is_that_of_the_names(tmp_path: Path) -> None:
    assert read(tmp_path, "1\ta\n2\tb\n3\tc,C,c\n4\t\n", ["4.wav", "3.wav", "1.wav"]) == [[], [2], [0]]


def test_full_path_wins_over_the_stem(tmp_path: Path) -> None:
    assert read(tmp_path, "x/1\ta\ny/1\tb\n1\tc\n", ["y/1.wav", "x/1.wav"]) == [[1], [0]]


def test_white_space_separates_where_there_is_no_tab(tmp_path: Path) -> None:
    assert read(tmp_path, "1.wav a,b\n", ["1.wav"]) == [[0, 1]]


@pytest.mark.parametrize(
    ("text", "names", "message"),
    [
        ("1\ta\n", ["2.wav"], r"train\.lbl: no entry for 2\.wav"),
        ("x/1\ta\n", ["y/1.wav"], r"no entry for y/1\.wav"),
        ("x/1\ta\ny/1\tb\n", ["1.wav"], r"lines 1 and 2 could both mean 1\.wav"),
        ("1\ta\n", ["x/1.wav", "y/1.wav"], r"line 1: could mean x/1\.wav and y/1\.wav"),
        ("1\ta\n2\tb,zebra\n", ["2.wav"], r"line 2: label 'zebra' of 2\.wav is not among the label descriptors"),
        ("1\ta\n\njust-a-name\n", ["1.wav"], "line 3: expected 'name<TAB>label,label', got 'just-a-name'"),
        ("1\ta\n1\tb\n", ["1"], "line 2: 1 has other labels than in line 1"),
    ],
)
def test_what_is_unclear_is_an_error(tmp_path: Path, text: str, names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text, names)


def test_absent_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"label file .*none.lbl does not exist"):
        read_labels(tmp_path / "none.lbl", ["1"], TABLE)


def test_a_label_that_a_manifest_would_tear_apart(tmp_path: Path) -> None:
    (tmp_path / "a.lbl").write_text("a.wav\tdogs;cats,bees\n")
    with pytest.raises(ValueError, match=r"a\.lbl: the label 'dogs;cats' holds a ;, which separates labels"):
        with_labels(make_recordings("", ["a.wav"], [()], ()), tmp_path / "a.lbl")
