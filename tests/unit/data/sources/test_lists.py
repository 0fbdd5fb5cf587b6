"""Sources that list files: AST's JSON, AudioSet's segments, a folder per class."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sslam_lightning.data.manifests.imports.ast_json import read_ast
from sslam_lightning.data.manifests.imports.class_folders import read_class_folders
from sslam_lightning.data.manifests.imports.segments import read_segments


def test_ast_json(tmp_path: Path) -> None:
    entries = [{"wav": "/far/a.flac", "labels": "/m/b,/m/a"}, {"wav": "near/ö.wav", "labels": ["/m/a"]}, {"wav": "c.wav"}]
    (tmp_path / "train.json").write_text(json.dumps({"data": entries}))
    recordings = read_ast(tmp_path / "train.json")
    assert [recordings.path(i) for i in range(3)] == ["/far/a.flac", str(tmp_path / "near/ö.wav"), str(tmp_path / "c.wav")]
    assert recordings.class_names == ("/m/a", "/m/b")
    assert [recordings.classes(i) for i in range(3)] == [[0, 1], [0], []]
    assert read_ast(tmp_path / "train.json", "/root").path(1) == "/root/near/ö.wav"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1", 'expected {"data"'),
        ('{"datum": []}', "expected {\"data\": .* \\('data'\\)"),
        ('{"data": [{"labels": "x"}]}', "expected {\"data\": .* \\('wav'\\)"),
        ('{"data": [{"wav": 3, "labels": "x"}]}', "entry 0: wav and labels must be text"),
        ('{"data": []}', "no recordings in it"),
    ],
)
def test_ast_json_of_another_form(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_ast(tmp_path / "x.json")
    with pytest.raises(FileNotFoundError, match=r"none\.json does not exist"):
        read_ast(tmp_path / "none.json")
    with pytest.raises(IsADirectoryError, match=f"{tmp_path.name} is a folder, where a file is expected$"):
        read_ast(tmp_path)


SEGMENTS = """\
# Segments csv created Sun Mar  5 10:54:25 2017
# num_ytids=22160, num_segs=22160, num_unique_labels=527, num_positive_labels=52882
# YTID, start_seconds, end_seconds, positive_labels
--PJHxphWEs, 30.000, 40.000, "/m/09x0r,/t/dd00088"
-_aBcDeFgH_, 0.000, 10.000, "/m/068hy"
YabcdefghiJ, 20.000, 30.000, "/m/068hy,/m/09x0r"
0123456789-, 5.000, 15.000, "/m/05zppz"
gone_______, 5.000, 15.000, "/m/05zppz"
"""


def test_audioset_segments_against_a_folder(tmp_path: Path) -> None:
    (tmp_path / "eval_segments.csv").write_text(SEGMENTS)
    names = [
        "a/Y--PJHxphWEs.wav",
        "-_aBcDeFgH__0.000_10.000.flac",
        "YabcdefghiJ.mp3",
        "b/0123456789-_5000_15000.ogg",
        "0123456789-_90.wav",  # another segment of this video
        "other-video.wav",
    ]
    recordings = read_segments(tmp_path / "eval_segments.csv", str(tmp_path), names)
    assert list(recordings.names) == [names[0], names[1], names[2], names[3], "gone_______"]
    labels = [{recordings.class_names[c] for c in recordings.classes(i)} for i in range(5)]
    assert labels[0] == {"/m/09x0r", "/t/dd00088"}
    assert labels[2] == {"/m/068hy", "/m/09x0r"}
    with pytest.raises(ValueError, match=r"two files for segment YabcdefghiJ: YabcdefghiJ\.mp3 and YYabcdefghiJ\.wav"):
        read_segments(tmp_path / "eval_segments.csv", str(tmp_path), [*names, "YYabcdefghiJ.wav"])


def test_segments_of_another_form(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text(SEGMENTS + "tooshort, 1, 2, x\n")
    with pytest.raises(
        ValueError, match=r's\.csv, line 9: expected YTID, start_seconds, end_seconds, "labels", got tooshort'
    ):
        read_segments(tmp_path / "s.csv", "", [])
    (tmp_path / "s.csv").write_text("# nothing\n")
    with pytest.raises(ValueError, match="no segments in it"):
        read_segments(tmp_path / "s.csv", "", [])
    with pytest.raises(FileNotFoundError, match=r"list of segments .*none\.csv does not exist"):
        read_segments(tmp_path / "none.csv", "", [])


def test_a_folder_per_class() -> None:
    recordings = read_class_folders("root", ["dog/1.wav", "Bee, buzzing/x/2.wav", "dog/3.wav"])
    assert recordings.class_names == ("Bee, buzzing", "dog")
    assert [recordings.classes(i) for i in range(3)] == [[1], [0], [1]]
    with pytest.raises(ValueError, match=r"root/stray\.wav lies in no folder of a class"):
        read_class_folders("root", ["dog/1.wav", "stray.wav"])
