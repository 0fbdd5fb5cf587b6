"""Sound event detection: targets, loss and events of hand-made clips, and a model that learns where two pitches sound."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import soundfile
import torch
from tiny_modules import ENCODER, FEATURES, finetune, noise

from sslam_lightning.augment import SpecAugment
from sslam_lightning.checkpoints import load_classifier, load_encoder, read_weights
from sslam_lightning.data import AudioFolderDataModule, EventTableDataModule
from sslam_lightning.data.manifests.annotations import read_event_table
from sslam_lightning.events import Collars, EventDecoding
from sslam_lightning.models import EncoderConfig
from sslam_lightning.training import DetectionModule
from sslam_lightning.training.callbacks import EventWriter
from sslam_lightning.training.modules.detection import FrameTargets
from sslam_lightning.training.run.optimizers import OptimizerConfig
from sslam_lightning.types import Batch, Event, Events

FRAME = 0.04  # four frames of log-mels


def detection(**settings: Any) -> DetectionModule:
    return DetectionModule(
        **{"encoder": ENCODER, "features": FEATURES, "num_classes": 2, "class_names": ["low", "high"], **settings}
    )


def batch() -> Batch:
    """Two clips of noise; the second is half as long, and its second sound ends behind it."""
    events = Events(
        torch.tensor([[0, 0], [1, 1]]), torch.tensor([[0.04, 0.0], [0.0, 0.12]]), torch.tensor([[0.12, 0.0], [0.04, 0.9]])
    )
    return noise(2)._replace(lengths=[6000, 2600], events=events)


def test_targets_by_hand() -> None:
    module = detection()
    assert module.frame_seconds == FRAME
    targets = module.targets(batch(), 8)
    assert targets.num_frames.tolist() == [8, 5]  # 2600 samples are 4.06 frames of 640
    assert targets.labels[0].T.tolist() == [[0, 1, 1, 0, 0, 0, 0, 0], [0] * 8]
    assert targets.labels[1].T.tolist() == [[0] * 8, [1, 0, 0, 1, 1, 1, 1, 1]]


def test_the_loss_by_hand() -> None:
    """Errors of ln 2 where nothing is known, ln 4/3 and ln 4 where a probability is 3/4; frames of padding do not count."""
    logits = torch.zeros(2, 3, 2)
    logits[0, 0] = math.log(3)
    logits[1, 2] = 50.0
    labels = torch.zeros(2, 3, 2)
    labels[0, 0, 0] = 1
    loss = detection().frame_loss(logits, FrameTargets(labels, torch.tensor([3, 2])))
    first = (math.log(4 / 3) + math.log(4) + 4 * math.log(2)) / 6
    assert loss.item() == pytest.approx((first + math.log(2)) / 2)


def test_predictions_of_frames() -> None:
    module = detection().eval()
    torch.nn.init.normal_(module.head.linear.weight)
    log_mels = module.log_mels(batch())
    logits = module(log_mels)
    assert logits.shape == (2, 8, 2)
    tokens = module.encoder(log_mels).tokens.view(2, 8, 4, 16)  # time-major: four patches above each other
    torch.testing.assert_close(logits, module.head.linear(module.head.norm(tokens.mean(dim=2))))
    names, tags = module.predict_step(batch(), 0)
    assert names == ("clip 0", "clip 1")
    torch.testing.assert_close(tags, logits.sigmoid().amax(dim=1))


def test_a_training_step_learns_everything() -> None:
    module = detection(spec_augment=SpecAugment(0.2, 0.2))
    with pytest.warns(UserWarning, match="self.log"):
        module.training_step(batch(), 0).backward()
    assert all(parameter.grad is not None for parameter in module.parameters())
    empty = module.training_step(batch()._replace(waveforms=torch.zeros(0, 10)), 0)
    assert empty.item() == 0


def test_data_without_events_is_refused() -> None:
    with pytest.raises(ValueError, match=r"clip 0 has no onsets and offsets to learn from: detection takes a data module"):
        detection().training_step(noise(2), 0)
    with pytest.raises(
        ValueError, match=r"features\.patch_frames must be the frames of one of the encoder's tokens, got 8"
    ):
        detection(features=FEATURES.__class__(num_frames=32, num_mels=16, patch_frames=8))


def test_clips_that_do_not_fit_into_the_encoder_are_refused() -> None:
    """Eight frames are 5120 samples; part of a ninth may be cut off, as recordings are not exact to the sample."""
    move = partial(detection().transfer_batch_to_device, device=torch.device("cpu"), dataloader_idx=0)
    longest = batch()._replace(lengths=[2600, 9 * 640])
    assert move(longest).lengths == [2600, 5760]
    with pytest.raises(
        ValueError,
        match=r"clip 1 lasts 0\.36 s, of which the encoder reads 0\.32 s: set data\.clip_seconds to that "
        r"\(data\.max_clip_seconds where there is none\) or raise model\.features\.num_frames",
    ):
        move(batch()._replace(lengths=[2600, 9 * 640 + 1]))


def test_recordings_that_do_not_fit_end_the_validation(tmp_path: Path) -> None:
    make_recordings(tmp_path, 2)
    data = EventTableDataModule(tmp_path, *("events.tsv", "audio") * 2, num_workers=0, batch_size=2)
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    with pytest.raises(ValueError, match=r"audio/0\.wav lasts 1\.28 s, of which the encoder reads 0\.32 s"):
        trainer.validate(detection(class_names=list(data.class_names)), data, verbose=False)


def save(module: pl.LightningModule, path: Path) -> None:
    trainer = pl.Trainer(logger=False, enable_checkpointing=False, enable_model_summary=False, accelerator="cpu")
    trainer.strategy.connect(module)
    trainer.save_checkpoint(path)


def test_its_checkpoint_is_an_encoder_and_no_classifier_of_clips(tmp_path: Path) -> None:
    module = detection(decoding=EventDecoding(threshold=0.7), collars=Collars(onset_seconds=0.1))
    save(module, tmp_path / "detector.ckpt")
    encoder = load_encoder(str(tmp_path / "detector.ckpt"))
    assert all(torch.equal(encoder.state_dict()[name], value) for name, value in module.encoder.state_dict().items())
    assert "head.linear.weight" in read_weights(str(tmp_path / "detector.ckpt")).unused
    with pytest.raises(ValueError, match=r"detector\.ckpt.*no .*head"):
        load_classifier(str(tmp_path / "detector.ckpt"))
    again = DetectionModule.load_from_checkpoint(tmp_path / "detector.ckpt", decoding={"threshold": 0.2})
    assert again.class_names == module.class_names
    assert (again.decoding.threshold, again.collars) == (0.2, Collars())  # neither is part of the checkpoint


def test_starts_from_a_classifier(tmp_path: Path) -> None:
    """A head on clips and one on frames have the same parameters."""
    classifier = finetune(num_classes=2)
    save(classifier, tmp_path / "classifier.ckpt")
    module = detection()
    module.load_pretrained(str(tmp_path / "classifier.ckpt"))
    for part in ("encoder", "head"):
        theirs, ours = getattr(classifier, part).state_dict(), getattr(module, part).state_dict()
        assert theirs.keys() == ours.keys()
        assert all(torch.equal(theirs[name], ours[name]) for name in theirs)


def make_recordings(root: Path, count: int) -> None:
    """Recordings of 1.28 s, each with a low tone and a high one, and the table of these."""
    rng = np.random.default_rng(count)
    rows = ["filename\tonset\toffset\tevent_label"]
    (root / "audio").mkdir(parents=True)
    for number in range(count):
        wave = 0.01 * rng.standard_normal(20480)
        for label, hertz in (("low", 400), ("high", 3000)):
            first, length = FRAME * rng.integers(0, 20), FRAME * rng.integers(6, 12)
            span = slice(round(first * 16000), round((first + length) * 16000))
            wave[span] += 0.3 * np.sin(2 * np.pi * hertz * np.arange(span.stop - span.start) / 16000)
            rows.append(f"{number}.wav\t{first:.3f}\t{first + length:.3f}\t{label}")
        soundfile.write(root / f"audio/{number}.wav", wave, 16000)
    (root / "events.tsv").write_text("\n".join(rows) + "\n")


def test_learns_where_two_pitches_sound(tmp_path: Path) -> None:
    """Fit on clips that cut the recordings in two, score whole recordings, and write what was found."""
    make_recordings(tmp_path / "train", 12)
    make_recordings(tmp_path / "test", 4)
    data = EventTableDataModule(
        tmp_path,
        *("train/events.tsv", "train/audio", "test/events.tsv", "test/audio"),
        clip_seconds=0.64,
        num_workers=0,
        batch_size=12,
    )
    module = detection(
        encoder=EncoderConfig(dim=32, depth=1, num_heads=2, mlp_ratio=2.0, patch_size=4, num_mels=16),
        features=FEATURES.__class__(num_frames=64, num_mels=16, patch_frames=4),
        class_names=list(data.class_names),
        optimizer=OptimizerConfig(lr=3e-3, warmup_steps=5),
    )
    writer = EventWriter(tmp_path / "found" / "events.tsv")
    trainer = pl.Trainer(
        max_epochs=45,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        check_val_every_n_epoch=45,
        callbacks=[writer],
    )
    trainer.fit(module, data)
    assert trainer.callback_metrics["val/best_event_F1"] == trainer.callback_metrics["val/event_F1"]
    (scores,) = trainer.test(module, data, verbose=False)
    assert scores["test/loss"] < 0.35  # knowing nothing costs 0.69
    assert min(scores[f"test/{name}_F1"] for name in ("event", "onset", "segment")) > 0.6
    trainer.predict(module, data, return_predictions=False)
    found = read_event_table(writer.path)
    truth = read_event_table(tmp_path / "test/events.tsv")
    assert list(found) == [f"test/audio/{name}" for name in truth]
    assert {event.label for events in found.values() for event in events} == {"low", "high"}
    assert module.take_events(trainer.predict_dataloaders) == {}  # they have been taken
    with pytest.raises(FileExistsError, match=r"events\.tsv exists already: move it away"):
        trainer.predict(module, data, return_predictions=False)


def test_recordings_without_annotations(tmp_path: Path) -> None:
    """Events are found in any recordings; one that cannot be read is left out."""
    make_recordings(tmp_path, 2)
    (tmp_path / "audio" / "broken.wav").write_bytes(b"no sound")
    data = AudioFolderDataModule(tmp_path / "audio", num_workers=0, max_unreadable_fraction=1.0, max_clip_seconds=8 * FRAME)
    module = detection().eval()
    torch.nn.init.constant_(module.head.linear.weight, 0.0)
    with torch.no_grad():
        module.head.linear.bias.copy_(torch.tensor([1.0, -1.0]))
    loader = data.predict_dataloader()
    for number, part in enumerate(loader):
        module.predict_step(part, number)
    found = module.take_events(loader)
    assert found == {name: [Event(0.0, pytest.approx(8 * FRAME), "low")] for name in ("0.wav", "1.wav")}


def test_what_predict_writes(tmp_path: Path) -> None:
    writer = detection().prediction_writer(tmp_path)
    module = SimpleNamespace(take_events=lambda loader: {"a.wav": [Event(0.1, 0.25, "dog")], "b.wav": []})
    writer.on_predict_epoch_end(SimpleNamespace(is_global_zero=True, predict_dataloaders=None), module)
    assert (tmp_path / "events.tsv").read_text() == (
        "filename\tonset\toffset\tevent_label\na.wav\t0.100\t0.250\tdog\nb.wav\t\t\t\n"
    )
    elsewhere = EventWriter(tmp_path / "other.tsv")
    elsewhere.on_predict_epoch_end(SimpleNamespace(is_global_zero=False, predict_dataloaders=None), module)
    assert not elsewhere.path.exists()
