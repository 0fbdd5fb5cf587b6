"""The unfinished file of tags: whose it is, is known before a byte of it is changed."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from sslam_lightning.inference.tagging.file import TagFile

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
    file.close()
    content = file.unfinished.read_bytes()
    with pytest.raises(ValueError, match=r"x\.csv\.unfinished is of a run with another top \(5, now 3\)"):
        TagFile(tmp_path / "x.csv", {**SETTINGS, "top": 3})
    assert file.unfinished.read_bytes() == content


def test_a_run_goes_on_behind_its_last_whole_line(tmp_path: Path) -> None:
    (tmp_path / "x.csv.unfinished").touch()  # nothing is in it, so nothing is lost
    file = TagFile(tmp_path / "x.csv", SETTINGS)
    assert file.num_done == 0
    file.add({"file": "a.wav", "unreadable": "holds no samples"})
    file.close()
    before = file.unfinished.read_bytes()
    file.unfinished.write_bytes(before + b'{"file": "b.w')
    again = TagFile(tmp_path / "x.csv", SETTINGS)
    assert again.num_done == 1
    assert again.unfinished.read_bytes() == before
    assert again.broken() == [("a.wav", "holds no samples")]


TOLD = {"file": "a.wav", "seconds": 1.0, "tags": []}


def test_one_process_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(TagFile(tmp_path / "x.jsonl", SETTINGS)) as file:
        with monkeypatch.context() as patch:
            patch.setattr("sslam_lightning.runtime.lock._PATIENCE_SECONDS", 0.0)
            with pytest.raises(OSError, match=r"another run is working on .*x\.jsonl\.unfinished: wait for it, or end it"):
                TagFile(tmp_path / "x.jsonl", SETTINGS)
        file.add(TOLD)
        file.finish()
    assert json.loads((tmp_path / "x.jsonl").read_text())["file"] == "a.wav"


def test_who_waited_for_a_run_that_then_finished_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = TagFile(tmp_path / "x.jsonl", SETTINGS)
    file.add(TOLD)
    monkeypatch.setattr("sslam_lightning.runtime.lock.time.sleep", lambda _: (file.finish(), file.close()))
    with pytest.raises(OSError, match=r"another run has just ended its work on .*x\.jsonl\.unfinished"):
        TagFile(tmp_path / "x.jsonl", SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["x.jsonl"]
    assert json.loads((tmp_path / "x.jsonl").read_text())["file"] == "a.wav"


def test_what_bears_the_name_by_the_end_is_not_replaced(tmp_path: Path) -> None:
    with closing(TagFile(tmp_path / "x.csv", SETTINGS)) as file:
        file.add(TOLD)
        (tmp_path / "x.csv").write_text("mine")
        with pytest.raises(FileExistsError, match=r"x\.csv exists already: move it"):
            file.finish()
    assert (tmp_path / "x.csv").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.csv", "x.csv.unfinished"]
