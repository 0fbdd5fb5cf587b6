"""Folders of recordings, images and text."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from sslam_lightning.data import AudioFolderDataModule, ImageFolderDataModule, TextDataModule
from sslam_lightning.data.files import find_files
from sslam_lightning.data.image_file import open_image, square
from sslam_lightning.data.manifests.scan import list_folder
from sslam_lightning.data.modules.images import collate_images
from sslam_lightning.data.modules.text import Passage, collate_texts
from sslam_lightning.data.tokenizer import END, PADDING, read_tokenizer

TEXTS = {"a.txt": "the quick brown fox jumps over the lazy dog. " * 41, "sub/b.md": "schöne Grüße 🐕 " * 63}


def test_files_come_in_one_order_and_hidden_ones_not_at_all(tmp_path: Path) -> None:
    for name in ("b.WAV", "a/z.wav", "a/.hidden.wav", ".git/c.wav", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert find_files(tmp_path, (".wav",)) == ["a/z.wav", "b.WAV"]
    with pytest.raises(FileNotFoundError, match=r"holds no files of the kinds \.flac, \.ogg"):
        find_files(tmp_path, (".ogg", ".flac"))
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere"):
        find_files(tmp_path / "nowhere", (".wav",))


def test_one_walk_for_all_tools(tmp_path: Path) -> None:
    """Folders that are links count, circles end, and what lies here has its own name."""
    root = tmp_path / "in"
    for name in ("in/b/1.wav", "in/.store/2.wav", "elsewhere/deep/3.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    links = {"a": "b", "c": ".store", "d": "../elsewhere", "b/up": "..", "../elsewhere/back": "../in"}
    for name, target in links.items():
        (root / name).symlink_to(target, target_is_directory=True)
    (root / "gone.wav").symlink_to("nowhere.wav")
    expected = ["b/1.wav", "c/2.wav", "d/deep/3.wav"]
    assert find_files(root, (".wav",)) == expected
    assert list(list_folder(str(root))[0].names) == [*expected, "gone.wav"]  # whose manifest will leave it out
    assert AudioFolderDataModule(root).dataset("train").recordings.names[:] == expected


def test_a_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "a.wav").touch()
    scandir = os.scandir

    def refusing(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)  # the superuser may list any folder
    for search in (lambda: find_files(tmp_path, (".wav",)), lambda: list_folder(str(tmp_path))):
        with pytest.raises(PermissionError, match=r"Permission denied: .*closed"):
            search()


def test_every_ending_that_can_be_read(tmp_path: Path) -> None:
    endings = ("wav", "flac", "ogg", "oga", "opus", "mp3", "aif", "aiff", "au")
    for ending in endings:
        kind = {"oga": "OGG", "opus": "OGG", "aif": "AIFF"}.get(ending, ending.upper())
        codec = "OPUS" if ending == "opus" else None
        soundfile.write(tmp_path / f"a.{ending}", np.full(8000, 0.1), 16000, format=kind, subtype=codec)
    (tmp_path / "a.m4a").touch()
    data = AudioFolderDataModule(tmp_path, batch_size=len(endings), num_workers=0)
    batch = next(iter(data.train_dataloader()))
    assert sorted(batch.names) == sorted(f"a.{ending}" for ending in endings)


def test_a_folder_of_recordings(tmp_path: Path) -> None:
    for number, seconds in enumerate((0.2, 0.3, 0.4)):
        (tmp_path / f"{number}").mkdir()
        noise = np.random.RandomState(number).uniform(-0.5, 0.5, round(8000 * seconds))
        soundfile.write(tmp_path / f"{number}" / "speech.flac", noise, 8000)
    data = AudioFolderDataModule(tmp_path, batch_size=3, num_workers=0, max_clip_seconds=0.35)
    batch = next(iter(data.train_dataloader()))
    assert sorted(batch.names) == ["0/speech.flac", "1/speech.flac", "2/speech.flac"]
    assert sorted(batch.num_samples.tolist()) == [3200, 4800, 5600]  # at 16 kHz, the longest cut
    assert data.val_dataloader() == []


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A dark left and a bright right half, twice as wide as high; a gray one; and a file that is no image."""
    halves = np.zeros((20, 40, 3), dtype=np.uint8)
    halves[:, 20:] = 255
    Image.fromarray(halves).save(tmp_path / "halves.png")
    Image.fromarray(np.full((20, 20), 128, dtype=np.uint8)).save(tmp_path / "gray.png")
    (tmp_path / "no.jpg").write_text("not an image")
    return tmp_path


def test_a_chunk_of_an_image_that_is_none(tmp_path: Path) -> None:
    """What PIL finds no syntax in is as unreadable as anything else."""
    path = tmp_path / "a.png"
    Image.fromarray(np.random.RandomState(0).randint(0, 256, (200, 200, 3), np.uint8)).save(path)
    content = path.read_bytes()
    second = content.index(b"IDAT", content.index(b"IDAT") + 1)
    path.write_bytes(content[:second] + b"\0\0\0\0" + content[second + 4 :])
    with pytest.raises(OSError, match=r"^cannot be read as an image \(broken PNG file"):
        open_image(path)


def test_images_are_squares_in_imagenets_colors(images: Path) -> None:
    data = ImageFolderDataModule(images, images, size=16, batch_size=3, num_workers=0)
    batch = next(iter(data.val_dataloader()))
    assert batch.names == ("gray.png", "halves.png")
    assert batch.images.shape == (2, 3, 16, 16)
    assert len(batch.broken) == 1
    assert batch.broken[0][0] == "no.jpg"
    assert "cannot be read as an image" in batch.broken[0][1]
    red = (128 / 255 - 0.485) / 0.229
    torch.testing.assert_close(batch.images[0, 0], torch.full((16, 16), red), rtol=1e-4, atol=1e-4)
    dark, bright = -0.485 / 0.229, (1 - 0.485) / 0.229  # the middle square is cut out: its halves are those of the image
    assert batch.images[1, 0, :, :7].max() < dark + 0.1
    assert batch.images[1, 0, :, 9:].min() > bright - 0.1


def test_training_crops_depend_on_seed_epoch_and_image_alone(images: Path) -> None:
    data = ImageFolderDataModule(images, size=16, batch_size=2, num_workers=0)
    dataset = data.make_dataset("train")
    one, again, next_epoch = (dataset[(epoch, 1)].image for epoch in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, next_epoch)
    draws = [dataset._draw(epoch, 1) for epoch in range(200)]
    for left, top, right, bottom in (square(100, 50, *draw[:3]) for draw in draws):
        assert 0 <= left < right <= 100
        assert 0 <= top < bottom <= 50
        assert right - left == pytest.approx(bottom - top)
        assert 0.2 * 2500 <= (right - left) ** 2 <= 2500 * 1.0001
    assert 60 < sum(flip > 0.5 for *_, flip in draws) < 140


def test_a_batch_without_any_image() -> None:
    assert len(collate_images([]).images) == 0
    with pytest.raises(ValueError, match=r"smallest_crop in \(0, 1\], got 16 and 0"):
        ImageFolderDataModule("anywhere", size=16, smallest_crop=0)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    for name, text in TEXTS.items():
        (tmp_path / "texts" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "texts" / name).write_text(text, encoding="utf-8")
    return tmp_path


def module(folder: Path, **settings) -> TextDataModule:
    settings = {"vocabulary": 300, "max_tokens": 16, "batch_size": 2, "num_workers": 0, **settings}
    return TextDataModule(folder / "texts", folder / "bpe" / "tokenizer.json", **settings)


def test_pieces_hold_every_token_of_every_text(texts: Path) -> None:
    data = module(texts)
    data.prepare_data()
    dataset = data.make_dataset("train")
    tokenizer = read_tokenizer(texts / "bpe" / "tokenizer.json")
    assert tokenizer.get_vocab_size() == data.vocabulary <= 300
    everything = dataset.tokens.tolist()
    ends = [place for place, token in enumerate(everything) if token == tokenizer.token_to_id(END)]
    assert tokenizer.decode(everything[: ends[0]]) == TEXTS["a.txt"]
    assert tokenizer.decode(everything[ends[0] + 1 : ends[1]]) == TEXTS["sub/b.md"]
    pieces = [dataset[index].tokens for index in range(len(dataset))]
    assert all(len(piece) == 16 for piece in pieces)
    assert torch.cat(pieces[:-1]).tolist() == everything[: 16 * (len(pieces) - 1)]
    assert pieces[-1].tolist() == everything[-16:]
    assert len(everything) % 16  # so the last piece does reach back
    batch = next(iter(data.train_dataloader()))
    assert batch.tokens.shape == (2, 16)
    assert batch.num_tokens.tolist() == [16, 16]


def test_a_tokenizer_is_trained_once(texts: Path) -> None:
    module(texts).prepare_data()
    file = texts / "bpe" / "tokenizer.json"
    before = file.read_bytes()
    module(texts, vocabulary=280).prepare_data()
    assert file.read_bytes() == before
    file.unlink()
    module(texts).prepare_data()
    assert file.read_bytes() == before  # and the same from the same texts


def test_short_texts_are_filled_up_with_padding() -> None:
    passages = [
        Passage(torch.tensor(tokens), torch.zeros(0), index, str(index)) for index, tokens in enumerate(([5, 6, 7], [8]))
    ]
    batch = collate_texts(passages)
    assert batch.tokens.tolist() == [[5, 6, 7], [8, 1, 1]]
    assert batch.num_tokens.tolist() == [3, 1]


def test_what_is_no_tokenizer_for_us(texts: Path) -> None:
    file = texts / "bpe" / "tokenizer.json"
    with pytest.raises(FileNotFoundError, match=r"there is no tokenizer at .*tokenizer.json: `sslam fit` trains one"):
        read_tokenizer(file)
    data = module(texts)
    data.prepare_data()
    text = file.read_text()
    file.write_text("{}")
    with pytest.raises(ValueError, match=r"tokenizer.json is no tokenizer"):
        read_tokenizer(file)
    file.write_text(text.replace(PADDING, "<PAD>"))
    with pytest.raises(ValueError, match=r"<pad> must be token 1, it is None"):
        read_tokenizer(file)
    with pytest.raises(ValueError, match=r"vocabulary must hold 261 tokens .* got 100 and 16"):
        module(texts, vocabulary=100)


def test_missing_texts_are_told_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*texts"):
        module(tmp_path).read_ahead("fit")
