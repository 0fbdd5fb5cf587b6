from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sslam_lightning.data import BrokenClip, ESC50MixturesDataModule
from sslam_lightning.data.modules.mixtures import MixtureDataset


@pytest.fixture
def root(tmp_path: Path, write_sound: Callable[..., Path]) -> Path:
    """Two folds of three classes, two clips each; a clip's name tells fold and class."""
    rows = ["filename,fold,target,category,esc10"]
    for fold in (1, 2):
        for target in range(3):
            for take in range(2):
                name = f"{fold}-{take}-{target}.wav"
                write_sound(f"esc/audio/{name}", seconds=0.05 + 0.01 * take, hertz=500 * (target + 1))
                rows.append(f"{name},{fold},{target},class {target},{target < 2}")
    (tmp_path / "esc" / "meta").mkdir()
    (tmp_path / "esc" / "meta" / "esc50.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "esc"


def mixtures(root: Path, split: str = "train", **settings) -> MixtureDataset:
    dataset = ESC50MixturesDataModule(root, **{"num_workers": 0, "num_train": 50, "num_test": 40, **settings}).dataset(
        split
    )
    assert isinstance(dataset, MixtureDataset)
    return dataset


def test_two_clips_of_different_classes_of_the_right_folds(root):
    for split, fold, count in (("train", "2", 50), ("val", "1", 40), ("test", "1", 40)):
        dataset = mixtures(root, split, fold=1)
        assert len(dataset) == count
        for index in range(count):
            clip = dataset[index]
            files = clip.name.split(" + ")
            assert all(name[0] == fold for name in files)
            classes = {int(name[4]) for name in files}
            assert len(classes) == 2
            assert set(clip.labels.nonzero().flatten().tolist()) == classes
            assert dataset.name(index).endswith(files[1])
    assert len({dataset[index].name for index in range(40)}) > 15


def test_mixtures_are_the_same_every_time_and_others_by_another_seed(root):
    first, again, other = mixtures(root), mixtures(root), mixtures(root, mixture_seed=1)
    assert torch.equal(first[7].waveform, again[3, 7].waveform)
    assert [first.parts(i) for i in range(50)] == [again.parts(i) for i in range(50)]
    assert [first.parts(i) for i in range(50)] != [other.parts(i) for i in range(50)]
    assert [first.parts(i)[0] for i in range(6)] != [mixtures(root, "test", fold=2).parts(i)[0] for i in range(6)]


def test_levels_by_hand(root):
    dataset = mixtures(root, max_level_decibels=5.0)
    levels = [dataset.parts(index)[2] for index in range(50)]
    assert -5 <= min(levels) < -3
    assert 3 < max(levels) <= 5
    place, other, level = dataset.parts(0)
    parts = [dataset.clips[index].waveform for index in (place, other)]
    first, second = (part / part.square().mean().sqrt() for part in parts)
    wanted = torch.zeros(max(map(len, parts)))
    wanted[: len(first)] += first
    wanted[: len(second)] += 10 ** (level / 20) * second
    torch.testing.assert_close(dataset[0].waveform, wanted * 0.5 / wanted.abs().max())
    assert mixtures(root, max_level_decibels=0.0).parts(0)[2] == 0.0
    assert math.isclose(float(dataset[0].waveform.abs().max()), 0.5, rel_tol=1e-6)


def test_the_module_is_multi_label_and_takes_the_subset(root):
    data = ESC50MixturesDataModule(root, fold=2, esc10=True, num_train=6, num_test=5, batch_size=4, num_workers=0)
    assert (data.multi_label, data.class_names) == (True, ("class 0", "class 1"))
    batches = list(data.test_dataloader())
    assert [len(batch.names) for batch in batches] == [4, 1]
    assert batches[0].labels.tolist() == [[1.0, 1.0]] * 4


def test_a_broken_clip_breaks_its_mixtures_alone(root):
    dataset = mixtures(root, fold=1)
    broken = dataset.clips.name(dataset.parts(0)[1])
    Path(broken).write_bytes(b"no sound")
    found = [dataset[index] for index in range(50)]
    assert isinstance(found[0], BrokenClip)
    assert Path(broken).name in found[0].reason
    for index, clip in enumerate(found):
        assert isinstance(clip, BrokenClip) == (broken in dataset.name(index).split(" + "))


def test_clear_errors(root):
    with pytest.raises(ValueError, match="a train split needs at least one mixture, got 0"):
        mixtures(root, num_train=0)
    with pytest.raises(ValueError, match="max_level_decibels must not be negative, got -1"):
        mixtures(root, max_level_decibels=-1)
    table = root / "meta" / "esc50.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([lines[0], *(line for line in lines if ",0,class" in line)]) + "\n")
    with pytest.raises(ValueError, match="the train clips are all of one class: two of different ones are mixed"):
        mixtures(root)
