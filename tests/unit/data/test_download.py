from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest

from sslam_lightning.data.download import download_and_unpack, unpack


def make_zip(path: Path, members: dict[str, str]) -> str:
    with zipfile.ZipFile(path, "w") as file:
        for name, text in members.items():
            file.writestr(name, text)
    return path.as_uri()


def test_the_part_with_the_marker_becomes_the_folder(tmp_path: Path) -> None:
    url = make_zip(tmp_path / "a.zip", {"set-main/meta/t.csv": "1", "set-main/audio/x.wav": "2", "other.txt": "3"})
    download_and_unpack(url, tmp_path / "new" / "set", "meta/t.csv")
    assert (tmp_path / "new" / "set" / "audio" / "x.wav").read_text() == "2"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["set"]  # nothing temporary stays


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"set exists but has no meta/t.csv"):
        download_and_unpack((tmp_path / "a.zip").as_uri(), tmp_path / "set", "meta/t.csv")
    assert (tmp_path / "set" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["../evil.txt", "good/../../evil.txt", "/evil.txt", "..\\evil.txt"])
def test_hostile_members_are_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "inner" / "set"
    url = make_zip(tmp_path / "a.zip", {"set/meta/t.csv": "1", name: "gotcha"})
    with pytest.raises(ValueError, match="refused to unpack"):
        download_and_unpack(url, folder, "meta/t.csv")
    assert not folder.exists()
    assert not list(tmp_path.rglob("evil.txt"))
    assert list((tmp_path / "inner").iterdir()) == []


def test_links_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("set/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(link, "/etc")
    with pytest.raises(ValueError, match="refused to unpack 'set/link'"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_what_can_go_wrong(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"download of file:.*none\.zip failed"):
        download_and_unpack((tmp_path / "none.zip").as_uri(), tmp_path / "set", "t.csv")
    (tmp_path / "text.zip").write_text("no archive")
    with pytest.raises(ValueError, match="is not a whole zip archive"):
        download_and_unpack((tmp_path / "text.zip").as_uri(), tmp_path / "set", "t.csv")
    with pytest.raises(ValueError, match=r"should hold t\.csv once, it does 0 times"):
        download_and_unpack(make_zip(tmp_path / "a.zip", {"x": "1"}), tmp_path / "set", "t.csv")
    assert not (tmp_path / "set").exists()
