from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sslam_lightning.data import SpeechCommandsDataModule
from sslam_lightning.data.modules.sets.speech_commands import KEYWORDS

OTHER_WORDS = ("bed", "cat")


@pytest.fixture
def root(tmp_path: Path, write_sound: Callable[..., Path]) -> Path:
    """Two speakers say twelve words; the second also said two of them before, one of each list."""
    for word in (*KEYWORDS, *OTHER_WORDS):
        write_sound(f"sc/{word}/0a_nohash_0.wav", seconds=0.05)
    for word in ("yes", "bed"):
        for take in (0, 1):
            write_sound(f"sc/{word}/0b_nohash_{take}.wav", seconds=0.05)
    write_sound("sc/_background_noise_/hiss.wav", seconds=20.25, rate_hz=2000)
    (tmp_path / "sc/_background_noise_/README.md").write_text("noise\n")
    (tmp_path / "sc/validation_list.txt").write_text("bed/0b_nohash_0.wav\nyes/0b_nohash_0.wav\n")
    (tmp_path / "sc/testing_list.txt").write_text("bed/0b_nohash_1.wav\nyes/0b_nohash_1.wav\n")
    return tmp_path / "sc"


def clips(data: SpeechCommandsDataModule, split: str) -> dict[str, str]:
    """The class of every file."""
    recordings = data.dataset(split).recordings
    return {recordings.names[i]: data.class_names[recordings.classes(i)[0]] for i in range(len(recordings))}


def test_every_word_is_a_class(root: Path) -> None:
    data = SpeechCommandsDataModule(root, num_workers=0)
    assert data.class_names == tuple(sorted((*KEYWORDS, *OTHER_WORDS)))
    assert not data.multi_label
    assert clips(data, "train") == {f"{word}/0a_nohash_0.wav": word for word in (*KEYWORDS, *OTHER_WORDS)}
    assert clips(data, "val") == {"bed/0b_nohash_0.wav": "bed", "yes/0b_nohash_0.wav": "yes"}
    assert clips(data, "test") == {"bed/0b_nohash_1.wav": "bed", "yes/0b_nohash_1.wav": "yes"}
    (batch,) = data.val_dataloader()
    assert batch.labels.argmax(dim=1).tolist() == [0, data.class_names.index("yes")]


def test_twelve_classes(root: Path) -> None:
    data = SpeechCommandsDataModule(root, task="keywords", num_workers=0)
    assert data.class_names == (*KEYWORDS, "_unknown_", "_silence_")
    val = clips(data, "val")
    assert (val["bed/0b_nohash_0.wav"], val["yes/0b_nohash_0.wav"]) == ("_unknown_", "yes")
    # 20.25 s are 21 clips, the last of which reaches back: 17, 2 and 2 of them.
    starts = {}
    for split in ("train", "val", "test"):
        dataset = data.dataset(split)
        silent = [i for i in range(len(dataset)) if data.class_names[dataset.recordings.classes(i)[0]] == "_silence_"]
        starts[split] = [float(dataset.recordings.start_seconds[i]) for i in silent]
        assert dataset.recordings.names[silent[0]] == "_background_noise_/hiss.wav"
        assert len(dataset[silent[-1]].waveform) == 16000
    assert starts == {"train": [float(second) for second in range(17)], "val": [17.0, 18.0], "test": [19.0, 19.25]}


def test_separate_test_archive(root: Path, tmp_path: Path, write_sound: Callable[..., Path]) -> None:
    for word in ("yes", "_unknown_", "_silence_"):
        write_sound(f"archive/{word}/1.wav", seconds=0.05)
    data = SpeechCommandsDataModule(root, task="keywords", test_root=tmp_path / "archive", num_workers=0)
    found = {Path(name).parent.name: label for name, label in clips(data, "test").items()}
    assert found == {"yes": "yes", "_unknown_": "_unknown_", "_silence_": "_silence_"}
    (batch,) = data.test_dataloader()
    assert len(batch.names) == 3
    assert not batch.broken


def test_what_is_missing_is_said(root: Path, tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"there is no folder .*nowhere: Speech Commands is a folder per word, valid"
    ):
        SpeechCommandsDataModule(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="task must be words or keywords, got 'twelve'"):
        SpeechCommandsDataModule(root, task="twelve")
    with pytest.raises(ValueError, match="test_root is for task: keywords"):
        SpeechCommandsDataModule(root, test_root=root)
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*gone: the archive of test words"):
        SpeechCommandsDataModule(root, task="keywords", test_root=root / "gone")
    (root / "bed/0b_nohash_1.wav").unlink()
    with pytest.raises(FileNotFoundError, match=r"testing_list.txt: 1 of 2 files do not exist, the first is .*0b_nohash_1"):
        SpeechCommandsDataModule(root)
    (root / "testing_list.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"testing_list\.txt does not exist: Speech Commands is"):
        SpeechCommandsDataModule(root)
    (root / "go/0a_nohash_0.wav").unlink()
    with pytest.raises(ValueError, match="no folder go: Speech Commands is"):
        SpeechCommandsDataModule(root, task="keywords")
