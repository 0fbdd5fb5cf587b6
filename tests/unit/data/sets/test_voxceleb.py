from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sslam_lightning.data import VoxCeleb1DataModule

SPLIT = """\
1 id10001/film/00001.wav
1 id10002/film/00001.wav
2 id10001/film/00002.wav
3 id10002/other/00001.wav
"""


def make(tmp_path: Path, write_sound: Callable[..., Path], homes: dict[str, str]) -> Path:
    for line in SPLIT.splitlines():
        name = line.split()[1]
        write_sound(f"vox/{homes[name[:7]]}/{name}", seconds=0.05)
    (tmp_path / "vox/iden_split.txt").write_text(SPLIT)
    return tmp_path / "vox"


@pytest.mark.parametrize("homes", [("wav", "wav"), ("dev/wav", "test/wav")])
def test_official_split(tmp_path: Path, write_sound: Callable[..., Path], homes: tuple[str, str]) -> None:
    root = make(tmp_path, write_sound, {"id10001": homes[0], "id10002": homes[1]})
    data = VoxCeleb1DataModule(root, num_workers=0)
    assert (data.class_names, data.multi_label) == (("id10001", "id10002"), False)
    assert list(data.dataset("train").recordings.names) == [
        f"{homes[0]}/id10001/film/00001.wav",
        f"{homes[1]}/id10002/film/00001.wav",
    ]
    (val,), (test,) = data.val_dataloader(), data.test_dataloader()
    assert val.names == (f"{homes[0]}/id10001/film/00002.wav",)
    assert val.labels.tolist() == [[1, 0]]
    assert test.labels.tolist() == [[0, 1]]


def test_what_is_missing_is_said(tmp_path: Path, write_sound: Callable[..., Path]) -> None:
    root = make(tmp_path, write_sound, {"id10001": "wav", "id10002": "wav"})
    (root / "wav/id10001/film/00002.wav").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"iden_split.txt: 1 of 4 files do not exist, the first is .*film/00002\.wav"
    ):
        VoxCeleb1DataModule(root)
    split = root / "iden_split.txt"
    split.write_text(SPLIT + "3 id10003/film/00001.wav\n")
    with pytest.raises(
        FileNotFoundError, match=r"iden_split.txt: 2 of 5 files do not exist, the first is .*film/00002\.wav"
    ):
        VoxCeleb1DataModule(root)
    split.write_text("4 id10001/film/00001.wav\n")
    with pytest.raises(ValueError, match=r"line 1: expected 1, 2 or 3 and SPEAKER/VIDEO/NUMBER\.wav, got '4 id10001"):
        VoxCeleb1DataModule(root)
    split.unlink()
    with pytest.raises(FileNotFoundError, match=r"iden_split\.txt does not exist: VoxCeleb1 is"):
        VoxCeleb1DataModule(root)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/iden_split.txt").write_text(SPLIT)
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*wav or .*dev/wav or .*test/wav: VoxCeleb1 is"):
        VoxCeleb1DataModule(tmp_path / "empty")
