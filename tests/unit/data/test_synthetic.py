from __future__ import annotations

import pytest
import torch

from sslam_lightning.data import SyntheticDataModule, SyntheticDataset


def test_two_runs_give_identical_clips() -> None:
    first, second = (SyntheticDataset(20, seed=3, clip_seconds=0.5) for _ in range(2))
    for i in (0, 7, 19):
        assert torch.equal(first[i].waveform, second[(4, i)].waveform)  # in every epoch
        assert torch.equal(first[i].labels, second[i].labels)


def test_clips_differ_by_index_split_and_seed() -> None:
    datasets = [
        SyntheticDataset(20, "train", 0.5),
        SyntheticDataset(20, "val", 0.5),
        SyntheticDataset(20, "test", 0.5),
        SyntheticDataset(20, "train", 0.5, seed=1),
    ]
    sums = {float(dataset[i].waveform.abs().sum()) for dataset in datasets for i in range(5)}
    assert len(sums) == 20


def test_labels_count_the_sources() -> None:
    dataset = SyntheticDataset(300, clip_seconds=0.2, max_sources=3)
    labels = torch.stack([dataset[i].labels for i in range(300)])
    counts = labels.sum(dim=1).long().bincount(minlength=4)
    assert counts[0] == 0
    assert counts[1:].min() > 70  # each of 1, 2, 3 about 100 times
    assert labels.sum(dim=0).min() > 30  # each class about 60 times
    assert set(labels.unique().tolist()) == {0.0, 1.0}


def test_sounds_stand_out_of_the_noise_and_do_not_clip() -> None:
    dataset = SyntheticDataset(60, clip_seconds=1.0)
    for i in range(60):
        clip = dataset[i]
        assert clip.waveform.shape == (16000,)
        assert clip.waveform.dtype == torch.float32
        assert float(clip.waveform.abs().max()) <= 1.0
        level = 10 * torch.log10(clip.waveform.square().mean())
        assert level > -37  # the noise alone is below -45 dB


def test_data_module() -> None:
    data = SyntheticDataModule(
        num_train=7, num_val=3, clip_seconds=0.3, num_classes=4, max_sources=2, batch_size=2, num_workers=0
    )
    assert (data.num_classes, data.class_names[1], data.multi_label) == (4, "hum", True)
    assert [batch.waveforms.shape for batch in data.train_dataloader()] == [(2, 4800)] * 4
    assert [len(batch.names) for batch in data.val_dataloader()] == [2, 1]
    assert next(iter(data.test_dataloader())).names[0] == "synthetic/test/0"
    assert SyntheticDataModule(num_val=0).val_dataloader() == []


def test_settings() -> None:
    for settings, message in (
        ({"num_train": 0}, "a train split needs at least one clip, got 0"),
        ({"num_classes": 11}, r"num_classes must lie in 1\.\.10, got 11"),
        ({"num_classes": 2, "max_sources": 3}, r"max_sources must lie in 1\.\.num_classes \(2\), got 3"),
        ({"clip_seconds": 0.01}, "at least 4000 Hz and 0.1 s, got 16000 Hz and 0.01 s"),
    ):
        with pytest.raises(ValueError, match=message):
            SyntheticDataModule(**settings)
    with pytest.raises(IndexError):
        SyntheticDataset(3)[3]
