from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from sslam_lightning.data.sets.scaper import companions


def group(folder: PurePosixPath) -> str | None:
    return next((part for part in folder.parts if part in ("train", "test")), None)


@pytest.mark.parametrize(
    ("file", "other"),
    [
        ("train/a.wav", "train/a.txt"),
        ("audio/train/a.wav", "events/train/a.txt"),
        ("train/c1/a.wav", "train/c1/events/a.TXT"),
        ("train/audio/c1/a.wav", "train/c1/a.jams"),
        ("audio/train/c1/a.wav", "events/a.txt"),  # the only one of its name
    ],
)
def test_where_a_companion_may_lie(file: str, other: str) -> None:
    assert companions([file], [other, "train/b.txt"], group) == {file: other}


def test_the_nearest_comes_first() -> None:
    others = ["train/a.jams", "train/a.txt", "train/old/a.txt", "events/a.txt"]
    assert companions(["train/a.wav", "train/a.flac"], others, group) == dict.fromkeys(
        ["train/a.wav", "train/a.flac"], others[1]
    )
    both = ["jams/train/a.jams", "txt/train/a.txt"]
    assert companions(["audio/train/a.wav"], both, group) == {"audio/train/a.wav": both[1]}
    same = [f"train/{client}/{name}" for client in ("1", "2", "1/1") for name in ("a.wav", "a.txt")]
    assert companions(same[::2], same[1::2], group) == dict(zip(same[::2], same[1::2], strict=True))


def test_nothing_is_taken_from_another_file_or_group() -> None:
    files = ["train/c1/audio/a.wav", "train/c2/audio/a.wav", "test/b.wav"]
    assert companions(files, ["train/c1/events/a.txt", "train/b.txt"], group) == {files[0]: "train/c1/events/a.txt"}
    assert companions(["train/c1/a.wav", "train/c2/a.wav"], ["train/c2/a.txt"], group) == {
        "train/c2/a.wav": "train/c2/a.txt"
    }


def test_what_could_be_meant_otherwise_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^train/a\.wav: one/train/a\.txt or two/train/a\.txt may go with it$"):
        companions(["train/a.wav"], ["one/train/a.txt", "two/train/a.txt"], group)
    with pytest.raises(ValueError, match=r"^train/a\.txt: train/c2/a\.wav or a file called train/c1/a may go with it$"):
        companions(["train/c1/a.wav", "train/c2/a.wav"], ["train/a.txt"], group)


def test_many_files_of_one_name() -> None:
    """What grows with the square of their number would not end here."""
    files = [f"train/{client}/scene.wav" for client in range(20_000)]
    others = [f"train/{client}/scene.txt" for client in range(20_000)]
    assert companions(files, others, group) == dict(zip(files, others, strict=True))
