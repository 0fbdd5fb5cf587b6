"""The unfinished file of tags: whose it is, is known before a byte of it is changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sslam_lightning.cli.tag_file import TagFile

SETTINGS = {"weights": "0a", "top": 5, "recordings": "2 files, 1b"}


@pytest.mark.parametrize(
    "content",
    [
        b"a line\nand notes that end without a line break",
        b"notes",
        b'{"file": "a.wav", "tags": []}\n{"file": "b.w',
        b"[1, 2]\n3",
        b"[" * 100_000,
        json.dumps(SETTINGS).encode()[:-4],
        json.dumps(SETTINGS).encode(),
        bytes(range(256)),
    ],
    ids=["lines", "no line", "a table of json", "a list", "a deep one", "cut short", "without its end", "bytes"],
)
def test_what_is_not_ours_is_left_alone(tmp_path: Path, content: bytes) -> None:
    unfinished = tmp_path / "x.csv.unfinished"
    unfinished.write_bytes(content)
    with pytest.raises(FileExistsError, match=r"x\.csv\.unfinished is no unfinished file of sslam tag: move it"):
        TagFile(tmp_path / "x.csv", SETTINGS)
    assert unfinished.read_bytes() == content
    assert list(tmp_path.iterdir()) == [unfinished]


def test_another_runs_is_left_alone(tmp_path: Path) -> None:
    file = TagFile(tmp_path / "x.csv", SETTINGS)
    with file.unfinished.open("a") as more:
        more.write('{"file": "a.w')
    content = file.unfinished.read_bytes()
    with pytest.raises(ValueError, match=r"x\.csv\.unfinished is of a run with another top \(5, now 3\)"):
        TagFile(tmp_path / "x.csv", {**SETTINGS, "top": 3})
    assert file.unfinished.read_bytes() == content


def test_a_run_goes_on_behind_its_last_whole_line(tmp_path: Path) -> None:
    (tmp_path / "x.csv.unfinished").touch()  # nothing is in it, so nothing is lost
    file = TagFile(tmp_path / "x.csv", SETTINGS)
    assert file.num_done == 0
    file.add({"file": "a.wav", "unreadable": "holds no samples"})
    before = file.unfinished.read_bytes()
    file.unfinished.write_bytes(before + b'{"file": "b.w')
    again = TagFile(tmp_path / "x.csv", SETTINGS)
    assert again.num_done == 1
    assert again.unfinished.read_bytes() == before
    assert again.broken() == [("a.wav", "holds no samples")]
