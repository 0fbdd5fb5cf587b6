"""Sound event detection from the command line: fit, test, predict, on a small folder of DCASE 2016's form."""

from __future__ import annotations

import csv
import math
import sys
from pathlib import Path

import pytest
from scenes import HERTZ, make_scenes

from sslam_lightning.__main__ import main
from sslam_lightning.data.manifests.annotations import read_event_table
from sslam_lightning.runtime.configs import config_folder

TINY = {
    "model.encoder": '{"dim": 32, "depth": 1, "num_heads": 2}',
    "model.features.num_frames": 256,
    "model.optimizer.warmup_steps": 1,
    "data.clip_seconds": 2.56,
    "data.isolated_sounds": "false",
    "data.num_workers": 0,
    "trainer.max_steps": 4,
    "trainer.log_every_n_steps": 1,
    "trainer.check_val_every_n_epoch": 1,
    "trainer.num_sanity_val_steps": 0,
    "trainer.enable_progress_bar": "false",
}


def sslam(command: str, data: Path, run: Path, *options: str) -> None:
    recipe, cpu = config_folder() / "finetune/dcase2016_task2.yaml", config_folder() / "overlays/trainer/cpu.yaml"
    settings = {**TINY, "data.root": data, "trainer.default_root_dir": run}
    given = [f"--{name}={value}" for name, value in settings.items()]
    main([command, "--config", str(recipe), "--config", str(cpu), *given, *options])


def test_fit_test_and_predict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, run = make_scenes(tmp_path / "data"), tmp_path / "run"
    sslam("fit", data, run, "--model.init_from=null")
    with (run / "logs/version_0/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    logged = {name for row in rows for name, value in row.items() if value}
    assert logged >= {"train/loss", "val/loss", "val/event_F1", "val/onset_F1", "val/segment_F1", "val/best_event_F1"}
    losses = [float(row["val/loss"]) for row in rows if row["val/loss"]]
    assert losses[-1] < losses[0] < 1.1 * math.log(2)  # which is what knowing nothing costs
    last = f"--ckpt_path={run}/checkpoints/last.ckpt"
    capsys.readouterr()
    sslam("test", data, run, last)
    assert "test/event_F1_macro" in capsys.readouterr().out
    # Every class is active all the time above no threshold at all.
    sslam("predict", data, run, last, "--model.decoding.threshold=0")
    assert f"predictions: {run}/events.tsv" in capsys.readouterr().out
    found = read_event_table(run / "events.tsv")
    assert sorted(Path(name).stem for name in found) == ["test_1_ebr_0_nec_2_poly_1", "test_1_ebr_6_nec_5_poly_1"]
    for events in found.values():
        assert {event.label for event in events} >= set(HERTZ)
        # 6 s, of which the last clip begins at 3.44 s, the middle of a frame, and so ends one of them later.
        assert {(event.onset_seconds, event.offset_seconds) for event in events} == {(0.0, 6.08)}
    with pytest.raises(SystemExit):
        sslam("predict", data, run, last)
    assert "events.tsv exists already: move it away" in capsys.readouterr().err


def test_without_mir_eval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Said before anything is trained."""
    monkeypatch.setitem(sys.modules, "mir_eval", None)
    with pytest.raises(SystemExit):
        sslam("fit", make_scenes(tmp_path / "data"), tmp_path / "run", "--model.init_from=null")
    assert "event scores need mir_eval" in capsys.readouterr().err
    assert not (tmp_path / "run" / "checkpoints").exists()
