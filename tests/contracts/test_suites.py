"""Every suite of configs/downstream is read, its protocols become objects, and its data module takes its settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from sslam_lightning.data import AudioDataModule
from sslam_lightning.evaluation import FineTuning, Protocol, read_suite
from sslam_lightning.evaluation.settings import build
from sslam_lightning.features import LogMels
from sslam_lightning.runtime.configs import config_folder

FOLDER = config_folder() / "downstream"
SUITES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
SHORT = sorted(f"short/{path.stem}" for path in FOLDER.glob("short/*.yaml"))  # the same on a smaller budget


def test_there_are_suites():
    assert set(SUITES) >= {"audioset_20k", "audioset_2m", "esc10", "esc10_mixtures", "esc50", "synthetic"}
    names = [read_suite(name, FOLDER).name for name in SUITES]
    assert len(set(names)) == len(names)  # they are told apart in one table
    assert SHORT


@pytest.mark.parametrize("name", SUITES + SHORT)
def test_suites(name):
    suite = read_suite(name, FOLDER)
    assert (FOLDER / f"{name}.yaml").read_text().startswith("# ")
    assert suite.protocol_names
    for protocol in suite.protocol_names:
        assert isinstance(suite.build_protocol(protocol), Protocol)
    assert LogMels(**{"num_frames": 1024, **suite.features}).num_frames
    assert suite.folds
    for fold in suite.folds:
        build(AudioDataModule, "data", suite.data_settings(fold, {}, {}), check_only=True)
        with pytest.raises(ValueError, match=r"data: (.|\n)*rot"):  # no file is there, but a slip of the pen is seen
            build(AudioDataModule, "data", suite.data_settings(fold, {"rot": "data"}, {}), check_only=True)


@pytest.mark.parametrize("name", SUITES + SHORT)
def test_no_suite_falls_back_on_the_length_of_a_first_try(name):
    suite = read_suite(name, FOLDER)
    for protocol in suite.protocol_names:
        settings = suite.protocol_settings(protocol)
        if isinstance(suite.build_protocol(protocol), FineTuning):
            assert {"updates", "batch_size"} <= settings["init_args"].keys(), protocol


def test_the_one_that_needs_no_data_gives_clips(tmp_path: Path):
    data = build(AudioDataModule, "data", read_suite("synthetic", FOLDER).data_settings("all", {"num_train": 4}, {}))
    assert len(data.dataset("train")) == 4
    assert data.multi_label
