"""A suite of events through `sslam evaluate`: scenes, a head on frames, a table of F1; and a model that has no frames."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import yaml
from scenes import make_scenes
from tiny import pretrain, soundscapes, trainer

from sslam_lightning.__main__ import main
from sslam_lightning.data.modules.sets.dcase2016 import CLASSES
from sslam_lightning.events import event_scores
from sslam_lightning.types import Event

TUNING = {"updates": 2, "evaluations": 2, "batch_size": 4, "trainer": {"enable_progress_bar": False}}
PROTOCOLS = {
    "frame_head": {"frozen_encoder": True, "optimizer": {"lr": 0.01, "layer_decay": 1.0}},
    "detection": {"decoding": {"threshold": 0.0}},  # above no threshold at all every class is found everywhere
}
WAVEFORM = {
    "class_path": "sslam_lightning.models.WaveformConfig",
    "init_args": {"layers": [[8, 10, 5], *[[8, 3, 2]] * 4, *[[8, 2, 2]] * 2]},
}


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """Of the form of configs/downstream/dcase2016_task2.yaml."""
    data = {"root": str(make_scenes(tmp_path / "data")), "clip_seconds": 2.56, "num_workers": 0, "batch_size": 4}
    content = {
        "name": "scenes",
        "metric": "segment F1",
        "data": {"class_path": "sslam_lightning.data.DCASE2016Task2DataModule", "init_args": data},
        "features": {"num_frames": 256},
        "exclude_protocols": ["linear", "linear_published", "knn", "attentive", "convex_gated", "finetune"],
        "protocols": {
            name: {"class_path": "sslam_lightning.evaluation.Detection", "init_args": {**TUNING, "model": model}}
            for name, model in PROTOCOLS.items()
        },
    }
    path = tmp_path / "scenes.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_events_are_judged_on_whole_test_scenes(suite: Path, tmp_path: Path) -> None:
    runner = trainer(tmp_path / "pretrained", max_steps=1)
    runner.fit(pretrain(), soundscapes(4))
    runner.save_checkpoint(tmp_path / "model.ckpt")
    main(["evaluate", "--suite", str(suite), f"--model={tmp_path}/model.ckpt", "--name=EAT", f"--out={tmp_path}/out"])
    runs = {run["protocol"]: run for run in json.loads((tmp_path / "out" / "results.json").read_text())}
    assert runs.keys() == PROTOCOLS.keys()
    assert [len(run["scores"]) for run in runs.values()] == [2, 2]
    assert all(run["settings"]["weights"] == runs["detection"]["settings"]["weights"] for run in runs.values())
    truth = {}
    for path in (tmp_path / "data").glob("*test*/annotation/*.txt"):
        rows = (line.split("\t") for line in path.read_text().splitlines())
        truth[path.stem] = [Event(float(onset), float(offset), label) for onset, offset, label in rows]
    assert len(truth) == 2
    everything = [Event(0.0, 6.08, label) for label in CLASSES]  # to the end of the last frame
    wanted = event_scores(truth, dict.fromkeys(truth, everything), CLASSES).segment_f1
    assert 0.1 < wanted < 0.5
    assert runs["detection"]["scores"] == pytest.approx([wanted, wanted], abs=1e-6)
    with (tmp_path / "out" / "results.csv").open() as file:
        rows = {row["protocol"]: row for row in csv.DictReader(file)}
    assert {(row["metric"], row["runs"], row["failed"]) for row in rows.values()} == {("segment F1", "1", "0")}
    table = (tmp_path / "out" / "results.md").read_text()
    assert f"| EAT | scenes | detection | segment F1 | {100 * wanted:.1f} |" in table


def test_a_model_of_waveforms_has_no_frames_to_judge(
    suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = {"dim": 16, "depth": 2, "num_heads": 2, "front_end": WAVEFORM, "cls_token": False, "alibi": "learned"}
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"model": {"init_args": {"encoder": encoder}}}))
    with pytest.raises(SystemExit) as left:
        main(["evaluate", "--suite", str(suite), f"--model={recipe}", f"--out={tmp_path}/out"])
    assert left.value.code == 1
    told = capsys.readouterr()
    assert told.err.endswith("sslam: 2 of 2 runs failed; the table says why\n")
    line = f"{recipe} reads waveforms; Detection takes our own encoder, on log-mels"
    assert told.out.count(f": failed: {line}\n") == 2
    assert f"| scenes | detection | all | 0 | {line} |" in (tmp_path / "out" / "results.md").read_text()
