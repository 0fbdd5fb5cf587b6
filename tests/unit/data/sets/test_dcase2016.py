from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sslam_lightning.data import DCASE2016Task2DataModule
from sslam_lightning.types import Event

DEV = "dcase2016_task2_train_dev/dcase2016_task2_dev"
TRAIN = "dcase2016_task2_train_dev/dcase2016_task2_train"
TEST = "dcase2016_task2_test_public"
SCENES = {
    f"{DEV}/sound/dev_1_ebr_-6_nec_1_poly_0.wav": "0.2\t0.9\tcough\n1.9\t2.3\tkeys\n",  # HEAR trains on this one
    f"{DEV}/sound/dev_1_ebr_0_nec_1_poly_0.wav": "0.5\t0.6\tknock\n",  # and validates on this one
    f"{TEST}/sound/test_1_ebr_6_nec_5_poly_1.wav": "3.0\t3.4\tphone\n",
}


@pytest.fixture
def root(tmp_path: Path, write_sound: Callable[..., Path]) -> Path:
    for name, annotation in SCENES.items():
        write_sound(f"dcase/{name}", seconds=3.5, rate_hz=8000)
        text = (tmp_path / "dcase" / name.replace("/sound/", "/annotation/")).with_suffix(".txt")
        text.parent.mkdir(parents=True, exist_ok=True)
        text.write_text(annotation)
    write_sound(f"dcase/{TRAIN}/doorslam007.wav", seconds=0.4, rate_hz=8000)
    return tmp_path / "dcase"


def test_scenes_are_cut_into_clips(root: Path) -> None:
    data = DCASE2016Task2DataModule(root, clip_seconds=1.0, num_workers=0, batch_size=8)
    assert (data.num_classes, data.multi_label) == (11, True)
    train = data.dataset("train")
    # 3.5 s: three whole seconds and the last one of the scene.
    assert train.places.start_seconds.tolist() == [0.0, 1.0, 2.0, 2.5]
    assert set(train.recordings.names) == {next(iter(SCENES))}
    cough, keys = data.class_names.index("cough"), data.class_names.index("keys")
    assert [train.recordings.classes(i) for i in range(4)] == [[cough], [keys], [keys], []]
    assert [len(train[i].waveform) for i in range(4)] == [16000] * 4
    second, third = train[1].events, train[2].events
    assert second.onset_seconds.tolist() == pytest.approx([0.9])  # the keys go on in the next clip
    assert second.offset_seconds.tolist() == pytest.approx([1.0])
    assert third.onset_seconds.tolist() == [0.0]
    assert third.offset_seconds.tolist() == pytest.approx([0.3])
    assert train.events(0) == [Event(0.2, 0.9, "cough"), Event(1.9, 2.3, "keys")]
    (val,), (test,) = data.val_dataloader(), data.test_dataloader()
    assert set(val.names) == {list(SCENES)[1]}
    assert test.labels.sum(dim=1).tolist() == [0, 0, 0, 1]


def test_isolated_sounds(root: Path) -> None:
    data = DCASE2016Task2DataModule(root, isolated_sounds=True)
    train = data.dataset("train")
    assert list(train.recordings.names) == [next(iter(SCENES)), f"{TRAIN}/doorslam007.wav"]  # each shorter than a clip
    assert train.events(1) == [Event(0.0, 0.4, "doorslam")]
    (root / TRAIN / "doorslam007.wav").rename(root / TRAIN / "bang007.wav")
    with pytest.raises(ValueError, match=r"bang007\.wav: the event 'bang' is none of the classes clearthroat, cough"):
        data.make_dataset("train")
    (root / TRAIN / "bang007.wav").unlink()
    (root / TRAIN).rmdir()
    with pytest.raises(FileNotFoundError, match=r"dcase2016_task2_train: isolated_sounds needs the training part"):
        data.make_dataset("train")


def test_what_is_missing_is_said(root: Path, tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"there is no folder .*nowhere: DCASE 2016 task 2 is dcase2016_task2_train_dev"
    ):
        DCASE2016Task2DataModule(tmp_path / "nowhere")
    data = DCASE2016Task2DataModule(root)
    (root / TEST / "annotation/test_1_ebr_6_nec_5_poly_1.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"annotation .*test_1_ebr_6_nec_5_poly_1\.txt does not exist"):
        data.make_dataset("test")
    (root / TEST).rename(root / "elsewhere")
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*dcase2016_task2_test_public: DCASE 2016 task 2 is"):
        data.make_dataset("test")
