"""kill -9 at any moment, over and over in one run: nothing tells it from a run that was left alone."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from kill_job import ACCUMULATED, BATCH, CHOSEN
from processes import run_alone

from sslam_lightning.data.manifests.manifest import read_labeled
from sslam_lightning.data.shards.pack import Packing, pack

CLIPS, CLASSES = 29, 4

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Recordings with two labels each, and their table of classes."""
    rng = np.random.default_rng(1)
    for i in range(CLIPS):
        soundfile.write(tmp_path / f"{i}.wav", 0.1 * rng.standard_normal(10_560).astype(np.float32), 16000)
    path = tmp_path / "train.tsv"
    path.write_text("path\tlabels\n" + "".join(f"{i}.wav\tc{i % CLASSES};c{i % 3}\n" for i in range(CLIPS)))
    (tmp_path / "classes.csv").write_text("index,label\n" + "".join(f"{i},c{i}\n" for i in range(CLASSES)))
    return path


def kills_of(
    folder: Path, data: Path, epochs: int, ranks: int = 1, finetuning: bool = False, **more: int
) -> dict[str, int]:
    """Run kill_job.py and compare what it leaves; how often what was killed."""
    settings = {"data": data, "ranks": ranks, "epochs": epochs, **more}
    options = [f"--{name}={value}" for name, value in settings.items()] + ["--finetuning"] * finetuning
    run_alone("kill_job.py", folder, *options)
    batches = ACCUMULATED * -(-(CHOSEN if finetuning else CLIPS) // (BATCH * ranks * ACCUMULATED))  # whole updates
    for rank in range(ranks):
        whole, killed = ((folder / run / f"losses{rank}.txt").read_text().splitlines() for run in ("whole", "killed"))
        assert len(whole) == len(set(whole)) == epochs * batches
        assert len(killed) >= len(whole)  # what came after the last checkpoint was done again,
        assert set(killed) == set(whole)  # with the same clips and the same bits
    own, other = (torch.load(folder / run / "weights.pt", weights_only=True) for run in ("killed", "whole"))
    assert own.keys() == other.keys()
    assert [name for name in own if not torch.equal(own[name], other[name])] == []
    kills: dict[str, int] = json.loads((folder / "kills.json").read_text())
    return kills


@pytest.mark.slow
def test_more_than_twenty_kills_over_one_run(manifest, tmp_path):
    kills = kills_of(tmp_path, manifest, epochs=13)
    assert kills.keys() == {"all"}
    assert kills["all"] >= 20


def test_on_shards_with_labels_and_augmentation(manifest, tmp_path):
    pack(read_labeled(manifest), str(tmp_path / "shards"), Packing(clips_per_shard=10))
    assert kills_of(tmp_path, tmp_path / "shards", epochs=2, finetuning=True, most_batches=8)["all"] >= 2


def test_two_ranks_killed_together_and_one_by_one(manifest, tmp_path):
    """R30: the dice of this seed kill rank 1, both and rank 0 before the run is over, however busy the machine is."""
    kills = kills_of(tmp_path, manifest, epochs=3, ranks=2, most_batches=6, seed=26)
    assert min(kills["all"], kills["rank 0"], kills["rank 1"]) >= 1
