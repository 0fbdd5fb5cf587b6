"""200 recordings, 40 of them odd in ten ways: all that can be heard is used with its label, the rest is named."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import soundfile
from tiny import KeepEveryBatch, finetune, trainer

from sslam_lightning.data import AudioFolderDataModule, AudioSetDataModule
from sslam_lightning.losses import TeacherTargets
from sslam_lightning.masking import SpanMask
from sslam_lightning.models import ConvDecoderConfig, EncoderConfig, WaveformConfig
from sslam_lightning.training import PretrainModule

CLIPS, SAMPLES, RATE_HZ = 200, 4000, 16000
KINDS = ("wav", "flac", "ogg")


def _rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def _samples(path: Path, samples: np.ndarray, rate_hz: int = RATE_HZ) -> None:
    soundfile.write(path, samples, rate_hz)


def _not_a_number(path: Path) -> None:
    samples = np.zeros(SAMPLES, dtype=np.float32)
    samples[77] = np.nan
    soundfile.write(path, samples, RATE_HZ, subtype="FLOAT", format="WAV")


def _other_extension(path: Path) -> None:
    """What it is called and what it is are two things: libsndfile looks inside."""
    soundfile.write(path, 0.1 * np.random.default_rng(2).standard_normal(SAMPLES), RATE_HZ, format="AIFF")


# Way -> (what is done to four good files, what is said of them; None: they can be used).
WAYS: dict[str, tuple[Callable[[Path], None], str | None]] = {
    "truncated": (lambda path: _rewrite(path, lambda whole: whole[: len(whole) // 2]), "truncated|not readable|no samples"),
    "zero bytes": (lambda path: path.write_bytes(b""), "not readable as audio"),  # type: ignore[dict-item, return-value]
    "text": (lambda path: path.write_text("404 Not Found\n"), "not readable as audio"),  # type: ignore[dict-item, return-value]
    "not a number": (_not_a_number, "NaN or infinite"),
    "one sample": (lambda path: _samples(path, np.ones(1)), "too short, 1 samples where the model needs 2800"),
    "broken header": (lambda path: _rewrite(path, lambda whole: b"\0" * 40 + whole[40:]), "not readable as audio"),
    "wrong extension": (_other_extension, None),
    "silent": (lambda path: _samples(path, np.zeros(SAMPLES)), None),  # silence is a sound; `sslam data scan` lists it
    "8 channels": (lambda path: _samples(path, np.full((SAMPLES, 8), 0.1)), None),
    "8 kHz": (lambda path: _samples(path, np.full(SAMPLES, 0.1), 8000), None),
}


class Labels(pl.Callback):
    """How often every clip came, and whether with its own label."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.broken: list[float] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        for name, labels in zip(batch.names, batch.labels, strict=True):
            self.seen[name] += 1
            own = [int(name.split()[1])]
            self.wrong += [name] if labels.nonzero().flatten().tolist() != own else []

    def on_train_end(self, trainer, pl_module) -> None:
        self.broken.append(float(trainer.callback_metrics["unreadable_clips"]))


@pytest.fixture
def damaged(tmp_path: Path) -> dict[str, str | None]:
    """The files, their manifest, and what has to be said of each."""
    rng = np.random.default_rng(0)
    names = [f"clip {i} «{'ä' * (i % 3)}'s».{KINDS[i % 3]}" for i in range(CLIPS)]
    for name in names:
        _samples(tmp_path / name, 0.1 * rng.standard_normal(SAMPLES))
    said: dict[str, str | None] = dict.fromkeys(names)
    for number, (spoil, reason) in enumerate(WAYS.values()):
        for name in names[10 + number :: 50][:4]:
            if reason is None:
                said.pop(name)  # a wav takes its place: the other kinds do not hold everything
                name = str(Path(name).with_suffix(".wav"))
            spoil(tmp_path / name)
            said[name] = reason
    names = sorted(said, key=lambda name: int(name.split()[1]))
    (tmp_path / "train.tsv").write_text(".\n" + "".join(f"{name}\t{SAMPLES}\n" for name in names))
    (tmp_path / "train.lbl").write_text("".join(f"{name}\tclass{name.split()[1]}\n" for name in names))
    (tmp_path / "class_map.csv").write_text("index,label\n" + "".join(f"{i},class{i}\n" for i in range(CLIPS)))
    return said


def test_every_good_clip_is_used_and_every_bad_one_named_once(damaged, tmp_path, caplog):
    data = AudioSetDataModule(tmp_path / "train.tsv", class_map=tmp_path / "class_map.csv", batch_size=20, num_workers=2)
    labels, epochs = Labels(), 2
    with caplog.at_level(logging.WARNING, "sslam_lightning"):
        trainer(tmp_path, labels, KeepEveryBatch(tmp_path), max_epochs=epochs).fit(finetune(num_classes=CLIPS), data)
    bad = {name: reason for name, reason in damaged.items() if reason}
    assert len(damaged) == CLIPS
    assert len(bad) == 24
    assert labels.seen == dict.fromkeys((name for name in damaged if name not in bad), epochs)
    assert labels.wrong == []
    assert labels.broken == [24]
    lines = [record.getMessage() for record in caplog.records]
    for name, reason in bad.items():
        (line,) = (line for line in lines if line.startswith(f"{name}: "))
        assert any(part in line for part in reason.split("|")), line
    assert len(lines) == 25
    assert lines[-1] == "24 clips could not be used and were left out together with their labels"

    # A run resumed in the middle of the first epoch has met half of them, and tells of all.
    caplog.clear()
    again = AudioSetDataModule(tmp_path / "train.tsv", class_map=tmp_path / "class_map.csv", batch_size=20)
    resumed = trainer(tmp_path, counts := Labels(), max_epochs=1)
    resumed.fit(finetune(num_classes=CLIPS), again, ckpt_path=tmp_path / "batch5.ckpt", weights_only=True)
    assert len(counts.seen) < CLIPS - 24
    assert counts.broken == [24]
    assert again.unreadable_clips == data.unreadable_clips
    assert len(again.unreadable_clips) == 24
    assert len(caplog.records) == 25


def test_a_clip_too_short_for_a_mask_does_not_end_the_run(tmp_path, caplog):
    """It has two tokens, of which a third cannot be hidden; the others have hundreds."""
    for number in range(7):
        soundfile.write(tmp_path / f"{number}.wav", np.random.default_rng(number).normal(0, 0.1, 4000), 16_000)
    soundfile.write(tmp_path / "short.wav", np.full(30, 0.1), 16_000)
    encoder = EncoderConfig(16, 2, 2, front_end=WaveformConfig(((8, 10, 5), (8, 3, 2))), cls_token=False)
    settings = {"masking": SpanMask(0.3), "masks_per_clip": 2, "targets": TeacherTargets(2), "utterance": None}
    module = PretrainModule(encoder, ConvDecoderConfig(dim=8, depth=1, groups=2, dimensions=1), None, **settings)
    data = AudioFolderDataModule(tmp_path, batch_size=2, num_workers=0)
    with caplog.at_level(logging.WARNING, "sslam_lightning"):
        trainer(tmp_path).fit(module, data)
    assert data.broken.reasons == {"short.wav": "short.wav: too short, 30 samples where the model needs 50"}
    assert "1 clips could not be used and were left out" in caplog.text
