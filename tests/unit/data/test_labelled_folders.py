"""Images in a folder per class; texts in folders or as lines of a table."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from sslam_lightning.data import ImageFolderDataModule, TextDataModule
from sslam_lightning.data.modules.text import read_labeled
from sslam_lightning.data.tokenizer import train_tokenizer

LINES = "good\tthe mask hides\nbad\tthe teacher sees\n\ngood\tall of it and more of it\n"


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    train_tokenizer(iter([LINES]), 300).save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


def test_images_of_a_folder_per_class(tmp_path: Path) -> None:
    for name in ("dog/old/1.png", "cat/2.png", "cat/3.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    data = ImageFolderDataModule(tmp_path, tmp_path, size=8, labeled=True, batch_size=3, num_workers=0)
    assert (data.class_names, data.num_classes, data.multi_label) == (("cat", "dog"), 2, False)
    batch = next(iter(data.val_dataloader()))
    assert batch.names == ("cat/2.png", "cat/3.png", "dog/old/1.png")
    assert batch.labels.tolist() == [[1, 0], [1, 0], [0, 1]]
    Image.new("RGB", (8, 8)).save(tmp_path / "stray.png")
    with pytest.raises(ValueError, match=r"stray.png lies in no folder of a class \(cat, dog\)"):
        data.make_dataset("train")
    with pytest.raises(FileNotFoundError, match=r"old holds no folders: labeled files lie in a folder per class"):
        ImageFolderDataModule(tmp_path / "dog" / "old", labeled=True)


def test_lines_of_label_and_text(tmp_path: Path, tokenizer: Path) -> None:
    (tmp_path / "train.tsv").write_text(LINES)
    data = TextDataModule(tmp_path / "train.tsv", tokenizer, max_tokens=6, batch_size=3, num_workers=0, labeled=True)
    assert (data.class_names, data.multi_label) == (("bad", "good"), False)
    assert data.vocabulary <= 300
    dataset = data.make_dataset("train")
    batch = next(iter(data._ordered_loader(dataset)))
    assert batch.labels.tolist() == [[0, 1], [1, 0], [0, 1]]
    assert batch.names[2] == "train.tsv, line 4"
    last = [row[length - 1].item() for row, length in zip(batch.tokens, batch.lengths, strict=True)]
    assert last == [2, 2, 2]  # the end token, behind what is cut too
    assert max(batch.lengths) == 6
    assert data.make_dataset("val") is None


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    texts = ("one\u2028line", "form\ffeed", "next\x85line", "a\rb")
    (tmp_path / "a.tsv").write_bytes("".join(f"good\t{text}\r\n" for text in texts).encode())
    assert read_labeled(tmp_path / "a.tsv", ()).texts == list(texts)


def test_texts_of_a_folder_per_class(tmp_path: Path, tokenizer: Path) -> None:
    for label in ("long", "short"):
        (tmp_path / "texts" / label).mkdir(parents=True)
        (tmp_path / "texts" / label / "1.txt").write_text(label)
    data = TextDataModule(tmp_path / "texts", tokenizer, num_workers=0, labeled=True)
    dataset = data.make_dataset("train")
    assert torch.equal(dataset[1].labels, torch.tensor([0.0, 1.0]))
    assert dataset.name(1) == "short/1.txt"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("good the mask\n", r"train.tsv, line 1: expected 'label<TAB>text', got 'good the mask'"),
        ("a\tb\n\t\n\tmore\n", r"train.tsv, line 3: expected 'label<TAB>text'"),
        ("\n", r"train.tsv: no texts"),
    ],
)
def test_lines_that_are_none(tmp_path: Path, tokenizer: Path, text: str, message: str) -> None:
    (tmp_path / "train.tsv").write_text(text)
    with pytest.raises(ValueError, match=message):
        TextDataModule(tmp_path / "train.tsv", tokenizer, labeled=True)


def test_a_label_that_training_does_not_have(tmp_path: Path, tokenizer: Path) -> None:
    (tmp_path / "train.tsv").write_text(LINES)
    (tmp_path / "val.tsv").write_text("ugly\ttext\n")
    data = TextDataModule(tmp_path / "train.tsv", tokenizer, tmp_path / "val.tsv", num_workers=0, labeled=True)
    with pytest.raises(ValueError, match=r"the label ugly does not come in the training texts \(bad, good\)"):
        data.make_dataset("val")
    with pytest.raises(FileNotFoundError, match=r"there is no file or folder .*nowhere"):
        TextDataModule(tmp_path / "nowhere", tokenizer, labeled=True)
