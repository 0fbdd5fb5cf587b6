from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sslam_lightning.data import ESC50DataModule
from sslam_lightning.data.modules import esc50

ROWS = [  # file, fold, target, category, esc10
    ("1-a.wav", 1, 7, "rooster", "False"),
    ("1-b.wav", 1, 3, "dog", "True"),
    ("2-a.wav", 2, 3, "dog", "True"),
    ("2-b.wav", 2, 7, "rooster", "False"),
    ("3-a.wav", 3, 7, "rooster", "False"),
]


@pytest.fixture
def root(tmp_path: Path, write_sound: Callable[..., Path]) -> Path:
    folder = tmp_path / "esc"
    (folder / "meta").mkdir(parents=True)
    lines = [",".join(map(str, row)) for row in [("filename", "fold", "target", "category", "esc10"), *ROWS]]
    (folder / "meta" / "esc50.csv").write_text("\n".join(lines) + "\n")
    for row in ROWS:
        write_sound(f"esc/audio/{row[0]}", seconds=0.05)
    return folder


def names(data: ESC50DataModule, split: str) -> list[str]:
    dataset = data.dataset(split)
    return [] if dataset is None else list(dataset.recordings.names)


def test_folds(root: Path) -> None:
    data = ESC50DataModule(root, fold=2, num_workers=0)
    assert (data.num_classes, data.class_names, data.multi_label) == (2, ("dog", "rooster"), False)
    assert names(data, "train") == ["1-a.wav", "1-b.wav", "3-a.wav"]
    assert names(data, "val") == names(data, "test") == ["2-a.wav", "2-b.wav"]
    (batch,) = data.val_dataloader()
    assert batch.labels.tolist() == [[1, 0], [0, 1]]


def test_no_fold_trains_on_everything(root: Path) -> None:
    data = ESC50DataModule(root, fold=None)
    assert len(names(data, "train")) == 5
    assert data.val_dataloader() == []


def test_esc10_subset(root: Path) -> None:
    data = ESC50DataModule(root, fold=1, esc10=True)
    assert data.class_names == ("dog",)
    assert names(data, "train") == ["2-a.wav"]


def test_clear_errors(root: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"expected as .*nowhere/audio/ and .*esc50\.csv; download: true"):
        ESC50DataModule(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="has the folds 1, 2, 3, not fold 6"):
        ESC50DataModule(root, fold=6)
    (root / "audio" / "2-a.wav").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 5 files do not exist, the first is .*2-a\.wav"):
        ESC50DataModule(root)
    table = root / "meta" / "esc50.csv"
    text = table.read_text()
    table.write_text(text.replace("filename,fold,target,category", "file,fold,class,category"))
    with pytest.raises(ValueError, match="no column filename, target among file, fold, class"):
        ESC50DataModule(root)
    table.write_text(text.replace("1-b.wav,1,3", "1-b.wav,one,3"))
    with pytest.raises(ValueError, match="line 3: fold and target must be whole numbers"):
        ESC50DataModule(root)
    table.write_text(text.replace("2-a.wav,2,3,dog", "2-a.wav,2,3,cat"))
    with pytest.raises(ValueError, match="target 3 is called dog and cat"):
        ESC50DataModule(root)
    table.write_text(text.splitlines()[0] + "\n")
    with pytest.raises(ValueError, match=r"esc50\.csv: no rows$"):
        ESC50DataModule(root)


def test_download(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "made").mkdir()
    shutil.copytree(root, tmp_path / "made" / "ESC-50-master")
    archive = shutil.make_archive(str(tmp_path / "master"), "zip", tmp_path / "made")
    monkeypatch.setattr(esc50, "ARCHIVE_URL", Path(archive).as_uri())
    data = ESC50DataModule(tmp_path / "fetched", fold=1, download=True, num_workers=0)
    assert (tmp_path / "fetched" / "meta" / "esc50.csv").is_file()
    assert len(next(iter(data.val_dataloader())).names) == 2
    monkeypatch.setattr(esc50, "ARCHIVE_URL", "file:///nowhere.zip")
    ESC50DataModule(tmp_path / "fetched", fold=1, download=True)  # it is there: nothing is fetched


def test_real_recordings(esc10: Path) -> None:
    data = ESC50DataModule(esc10, fold=5, batch_size=4, num_workers=0)
    assert data.num_classes == 10
    assert data.class_names[:2] == ("dog", "rooster")
    train, val = data.dataset("train"), data.dataset("val")
    assert train is not None
    assert val is not None
    assert (len(train), len(val)) == (320, 80)
    batch = next(iter(data.train_dataloader()))
    assert abs(batch.waveforms.shape[1] - 80000) < 400
    assert torch.equal(batch.labels.sum(dim=1), torch.ones(4))
    targets = [int(name.rsplit("-", 1)[1].removesuffix(".ogg")) for name in batch.names]  # fold-source-take-target
    order = [0, 1, 10, 11, 12, 20, 21, 38, 40, 41]
    assert [order[i] for i in batch.labels.argmax(dim=1).tolist()] == targets
