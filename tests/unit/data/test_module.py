from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from lightning import LightningModule, Trainer
from torch import Tensor

from sslam_lightning.data import AudioFolderDataModule, AudioSetDataModule, EpochSampler, SyntheticDataModule
from sslam_lightning.types import Batch


class Probe(LightningModule):
    """Remembers the batches it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen: dict[str, list[list[int]]] = {"train": [], "val": [], "test": [], "predict": []}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.seen["train"].append(batch.clip_index.tolist())
        return self.layer(batch.waveforms[:, :1]).mean()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.seen["val"].append(batch.clip_index.tolist())

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self.seen["test"].append(batch.clip_index.tolist())

    def predict_step(self, batch: Batch, batch_idx: int) -> list[int]:
        self.seen["predict"].append(batch.clip_index.tolist())
        return batch.clip_index.tolist()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def trainer(folder: Path, **settings: object) -> Trainer:
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return Trainer(accelerator="cpu", default_root_dir=folder, num_sanity_val_steps=0, **{**quiet, **settings})


def labeled(manifest: Path, **settings: object) -> AudioSetDataModule:
    options = {"batch_size": 2, "num_workers": 0, "class_map": manifest.with_name("classes.csv"), **settings}
    return AudioSetDataModule(manifest, **options)


def test_workers_change_nothing() -> None:
    alone = SyntheticDataModule(num_train=8, clip_seconds=0.2, batch_size=3, num_workers=0, seed=4)
    helped = SyntheticDataModule(num_train=8, clip_seconds=0.2, batch_size=3, num_workers=2, seed=4)
    batches = list(zip(alone.train_dataloader(), helped.train_dataloader(), strict=True))
    assert len(batches) == 3  # the rest of 2 is filled up
    assert batches[-1][0].names[-1] == batches[0][0].names[0]
    for ours, theirs in batches:
        assert ours.names == theirs.names
        assert torch.equal(ours.waveforms, theirs.waveforms)
        assert torch.equal(ours.labels, theirs.labels)


def test_nobody_draws_from_the_global_generator() -> None:
    data = SyntheticDataModule(num_train=4, clip_seconds=0.2, batch_size=2, num_workers=0)
    before = torch.get_rng_state()
    assert len(list(data.train_dataloader())) == 2
    assert torch.equal(torch.get_rng_state(), before)


def test_lightning_keeps_the_sampler_and_sets_its_epoch(tmp_path: Path) -> None:
    data = SyntheticDataModule(num_train=6, num_val=5, clip_seconds=0.2, batch_size=2, num_workers=0, seed=3)
    model = Probe()
    fit = trainer(tmp_path, max_epochs=2)
    fit.fit(model, data)
    order = EpochSampler(6, 2, seed=3).order
    expected = [order(epoch).view(3, 2).tolist() for epoch in (0, 1)]
    assert model.seen["train"] == expected[0] + expected[1]
    assert model.seen["val"] == [[0, 1], [2, 3], [4]] * 2
    assert isinstance(fit.train_dataloader.sampler, EpochSampler)
    fit.test(model, data, verbose=False)
    assert model.seen["test"] == [[0, 1], [2, 3], [4]]
    assert trainer(tmp_path).predict(model, data) == [[0, 1], [2, 3], [4]]


def test_overfitting_on_a_few_batches_works(tmp_path: Path) -> None:
    model = Probe()
    data = SyntheticDataModule(num_train=6, num_val=2, clip_seconds=0.2, batch_size=2, num_workers=0)
    with pytest.warns(UserWarning, match="overfit"):
        trainer(tmp_path, max_epochs=2, overfit_batches=1).fit(model, data)
    assert model.seen["train"] == [[0, 1], [0, 1]]


def test_attributes_are_known_at_once(manifest: Path) -> None:
    data = labeled(manifest)
    assert (data.num_classes, data.multi_label, data.resampler) == (3, True, "torchaudio")
    assert data.class_names == ("Ape", "Bee, buzzing", "Cat")


def test_unreadable_clips_are_left_out_counted_and_listed(
    manifest: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (manifest.parent / "audio" / "sounds" / "clip4.wav").write_text("no sound")
    data = labeled(manifest, val_manifest=manifest, batch_size=3, num_workers=1)  # seen in the main process
    model = Probe()
    with caplog.at_level(logging.WARNING):
        trainer(tmp_path, max_epochs=1).fit(model, data)
    assert model.seen["val"] == [[0, 1, 2], [3, 5]]
    assert list(data.unreadable_clips) == ["sounds/clip4.wav"]
    assert "not readable as audio" in data.unreadable_clips["sounds/clip4.wav"]
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("sslam_lightning")]
    assert lines[0].startswith("sounds/clip4.wav: ")
    assert lines[1].startswith("1 clips could not be used")


def test_too_many_unreadable_clips_stop_the_run(manifest: Path, tmp_path: Path) -> None:
    for i in (0, 2, 4):
        (manifest.parent / "audio" / "sounds" / f"clip{i}.wav").write_text("no sound")
    data = labeled(manifest, val_manifest=manifest)
    with pytest.raises(ValueError, match=r"3 of 6 clips cannot be used, more than max_unreadable_fraction 0.2"):
        trainer(tmp_path).validate(Probe(), data, verbose=False)
    trainer(tmp_path).validate(
        Probe(), labeled(manifest, val_manifest=manifest, max_unreadable_fraction=0.5), verbose=False
    )


def test_pinned_batches_get_their_tuples_back() -> None:
    data = SyntheticDataModule(num_train=2, clip_seconds=0.2, batch_size=2, num_workers=0)
    batch = next(iter(data.train_dataloader()))
    pinned = batch._replace(names=list(batch.names), broken=[["a.wav", "why"]])
    returned = data.on_before_batch_transfer(pinned, 0)
    assert returned.names == batch.names
    assert returned.broken == (("a.wav", "why"),)
    assert data.on_before_batch_transfer("something else", 0) == "something else"


def test_settings() -> None:
    for name, value in (("batch_size", 0), ("num_workers", -1), ("seed", -1), ("worker_timeout_seconds", -1)):
        with pytest.raises(ValueError, match=f"{name} must be at least .*, got {value}"):
            SyntheticDataModule(**{name: value})
    with pytest.raises(ValueError, match="last_batch must be pad or drop in training, got 'keep'"):
        SyntheticDataModule(last_batch="keep")
    with pytest.raises(ValueError, match="resampler must be one of"):
        SyntheticDataModule(resampler="ffmpeg")
    with pytest.raises(ValueError, match="SyntheticDataModule has no recordings to weigh"):
        SyntheticDataModule(weighted_sampling=True, samples_per_epoch=5).train_dataloader()


def test_the_command_line_knows_the_shared_settings() -> None:
    jsonargparse = pytest.importorskip("jsonargparse")
    parser = jsonargparse.ArgumentParser()
    parser.add_subclass_arguments(SyntheticDataModule, "data")
    config = parser.parse_args(["--data=SyntheticDataModule", "--data.num_train=3", "--data.batch_size=2"])
    assert config.data.init_args.batch_size == 2
    assert config.data.init_args.resampler == "torchaudio"
    assert not {"class_names", "multi_label", "max_clip_seconds"} & set(vars(config.data.init_args))
    assert parser.instantiate(config).data.batch_size == 2


def test_clips_shorter_than_asked_for_are_left_out() -> None:
    data = SyntheticDataModule(num_train=4, clip_seconds=0.2, batch_size=4, num_workers=0, min_clip_seconds=0.2)
    assert len(next(iter(data.train_dataloader())).names) == 4
    data = SyntheticDataModule(num_train=4, clip_seconds=0.2, batch_size=4, num_workers=0, min_clip_seconds=0.25)
    batch = next(iter(data.train_dataloader()))
    assert not batch.names
    assert "too short, 3200 samples where data.min_clip_seconds needs 4000" in batch.broken[0][1]
    data.min_samples = 5000  # of the model, which needs still more
    assert "the model needs 5000" in next(iter(data.train_dataloader())).broken[0][1]
    with pytest.raises(ValueError, match=r"min_clip_seconds must be at least 0, got -1"):
        SyntheticDataModule(min_clip_seconds=-1.0)
    with pytest.raises(ValueError, match=r"min_clip_seconds 3 is more than max_clip_seconds 2.5"):
        AudioFolderDataModule(".", min_clip_seconds=3.0, max_clip_seconds=2.5)
