"""Which recordings are meant."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any

import pytest

from sslam_lightning.data.manifests.scan import list_folder
from sslam_lightning.inference.sources import find_sources


def names(*inputs: object, standard_input: bytes = b"") -> list[str]:
    with find_sources([str(name) for name in inputs], io.BytesIO(standard_input)) as sources:
        return [source.name for source in sources]


def test_folders_are_searched_and_files_taken_as_they_are(tmp_path: Path) -> None:
    for name in ("b/2.wav", "b/1.FLAC", "b/c/3.mp3", "b/notes.txt", "b/._hidden.wav", "odd.bin"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = names(tmp_path / "odd.bin", tmp_path / "b", tmp_path / "b/2.wav")
    assert [Path(name).relative_to(tmp_path).as_posix() for name in found] == [
        "odd.bin",
        "b/1.FLAC",
        "b/2.wav",
        "b/c/3.mp3",
    ]


def test_linked_folders_are_searched_once_as_scan_does(tmp_path: Path) -> None:
    for name in ("elsewhere/x.wav", "a/b/1.wav", "a/2.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "a/b/circle").symlink_to(tmp_path / "a")
    (tmp_path / "a/again").symlink_to(tmp_path / "elsewhere")
    found = [Path(name).relative_to(tmp_path / "a").as_posix() for name in names(tmp_path / "a")]
    assert found == ["2.wav", "again/x.wav", "b/1.wav"]
    assert found == list(list_folder(str(tmp_path / "a"))[0].names)


def test_a_folder_that_must_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "locked").mkdir()
    (tmp_path / "a.wav").touch()
    read = os.scandir

    def locked(folder: Any) -> Any:  # permissions do not bind an administrator, who may run this
        if folder == str(tmp_path / "locked"):
            raise PermissionError(errno.EACCES, "Permission denied", folder)
        return read(folder)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", locked)
        with pytest.raises(PermissionError, match=r"Permission denied: '.*locked'"):
            names(tmp_path)
    assert [Path(name).name for name in names(tmp_path)] == ["a.wav"]


def test_standard_input_is_kept_while_it_is_needed() -> None:
    with find_sources(["-"], io.BytesIO(b"sound")) as ((name, path),):
        assert name == "-"
        assert path.read_bytes() == b"sound"
    assert not path.exists()


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.wav: no such file or folder"):
        names(tmp_path / "none.wav")
    with pytest.raises(ValueError, match=r"no audio in this folder \(looked for \.3gp, \.aac"):
        names(tmp_path)
    with pytest.raises(ValueError, match="nothing came on standard input"):
        names("-")


@pytest.mark.parametrize(("kind", "found"), [("an image", "a.png"), ("a text", "b.txt"), ("sound", "c.wav")])
def test_folders_are_searched_for_what_a_model_reads(tmp_path: Path, kind: str, found: str) -> None:
    for name in ("a.png", "b.txt", "c.wav"):
        (tmp_path / name).touch()
    with find_sources([str(tmp_path)], kind=kind) as sources:
        assert [source.path.name for source in sources] == [found]
