from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from sslam_lightning.data import AudioSetDataModule


def test_labels_follow_their_clips(manifest: Path) -> None:
    data = AudioSetDataModule(manifest, class_map=manifest.with_name("classes.csv"), batch_size=2, num_workers=0, seed=1)
    data.setup("fit")
    expected = {0: [1, 0, 1], 1: [0, 1, 0], 2: [0, 0, 1], 3: [1, 0, 1], 4: [0, 1, 0], 5: [0, 0, 1]}
    met = {}
    for batch in data.train_dataloader():
        for index, labels, num_samples, name in zip(
            batch.clip_index.tolist(), batch.labels.tolist(), batch.num_samples.tolist(), batch.names, strict=True
        ):
            met[index] = labels
            assert num_samples == 800 + 160 * index  # the file that belongs to the index
            assert name == f"sounds/clip{index}.wav"
    assert met == expected


def test_unlabeled_pretraining(manifest: Path) -> None:
    manifest.with_suffix(".lbl").unlink()
    data = AudioSetDataModule(manifest, batch_size=6, num_workers=0)
    assert (data.num_classes, data.class_names) == (0, ())
    (batch,) = data.train_dataloader()
    assert batch.labels.shape == (6, 0)
    assert data.val_dataloader() == []
    assert data.test_dataloader() == []
    assert [batch.clip_index.tolist() for batch in data.predict_dataloader()] == [[0, 1, 2, 3, 4, 5]]


def test_splits_and_their_label_files(manifest: Path, tmp_path: Path) -> None:
    shutil.copy(manifest, tmp_path / "eval.tsv")
    data = AudioSetDataModule(
        manifest,
        val_manifest=tmp_path / "eval.tsv",
        class_map=tmp_path / "classes.csv",
        num_workers=0,
    )
    with pytest.raises(FileNotFoundError, match=r"label file .*eval\.lbl does not exist"):
        data.setup("fit")
    data = AudioSetDataModule(
        manifest,
        val_manifest=tmp_path / "eval.tsv",
        class_map=tmp_path / "classes.csv",
        val_labels=tmp_path / "train.lbl",
        num_workers=0,
    )
    data.setup("fit")
    (validation,) = data.val_dataloader()
    (test,) = data.test_dataloader()  # no manifest of its own
    assert torch.equal(validation.labels, test.labels)
    assert validation.labels.sum(dim=0).tolist() == [2, 2, 4]


def test_weighted_sampling_prefers_rare_classes(manifest: Path) -> None:
    # one clip of class 0, the others of class 1
    labels = ["/m/a"] + ["/m/b"] * 5
    manifest.with_suffix(".lbl").write_text("".join(f"clip{i}\t{label}\n" for i, label in enumerate(labels)))
    data = AudioSetDataModule(
        manifest,
        class_map=manifest.with_name("classes.csv"),
        batch_size=1,
        num_workers=0,
        weighted_sampling=True,
        samples_per_epoch=1,
    )
    sampler = data.train_dataloader().sampler
    rare = 0
    for epoch in range(400):
        sampler.set_epoch(epoch)
        rare += next(iter(sampler))[1] == 0
    expected = (1 / 1.01) / (1 / 1.01 + 5 / 5.01)  # about one half, instead of one sixth
    assert abs(rare / 400 - expected) < 0.1


def test_missing_files_are_skipped_when_told(manifest: Path) -> None:
    (manifest.parent / "audio" / "sounds" / "clip0.wav").unlink()
    with pytest.raises(FileNotFoundError, match="1 of 6 files do not exist"):
        AudioSetDataModule(manifest).setup("fit")
    data = AudioSetDataModule(manifest, missing_files="skip")
    data.setup("fit")
    dataset = data.dataset("train")
    assert dataset is not None
    assert len(dataset) == 5
