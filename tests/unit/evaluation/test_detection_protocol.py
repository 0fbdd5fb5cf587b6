"""A head on frames, judged by events, through a suite's own settings."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from sslam_lightning.evaluation import Detection
from sslam_lightning.training import DetectionModule


def test_settings_are_the_detectors() -> None:
    protocol = Detection(model={"decoding": {"median_seconds": 0.5}, "collars": {"onset_seconds": 0.1}})
    assert protocol.module_class is DetectionModule
    assert protocol.metrics == ("event F1", "onset F1", "segment F1")
    with pytest.raises(ValueError, match=r"finetune: .*mixup"):
        Detection(model={"mixup": {"alpha": 0.8}})


def test_clips_are_not_its_business() -> None:
    with pytest.raises(ValueError, match="Detection scores by event F1, onset F1, segment F1, not by mAP"):
        Detection().run(SimpleNamespace(metric="mAP"))


def test_frames_are_columns_of_log_mels(opened, task_of) -> None:
    task = replace(task_of(opened("waveform")), metric="event F1")
    with pytest.raises(ValueError, match=r"^none reads waveforms; Detection takes our own encoder, on log-mels"):
        Detection().run(task)
