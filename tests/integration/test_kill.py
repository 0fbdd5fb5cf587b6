"""kill -9 at any moment, more than twenty times over one run: nothing tells it from a run that was left alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from kill_job import BATCH, EPOCHS

import sslam_lightning

_HERE = Path(__file__).parent
_PACKAGE = Path(sslam_lightning.__file__).parents[1]
CLIPS = 29


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
def test_a_run_that_is_killed_over_and_over_ends_as_if_it_had_not(tmp_path):
    rng = np.random.default_rng(1)
    for i in range(CLIPS):
        soundfile.write(tmp_path / f"{i}.wav", 0.1 * rng.standard_normal(10_560).astype(np.float32), 16000)
    (tmp_path / "train.tsv").write_text(".\n" + "".join(f"{i}.wav\t10560\n" for i in range(CLIPS)))
    path = os.pathsep.join([str(_PACKAGE), str(_HERE), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(_HERE / "kill_job.py"), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int((tmp_path / "kills.txt").read_text()) >= 20

    whole = (tmp_path / "whole" / "losses.txt").read_text().splitlines()
    assert len(whole) == EPOCHS * -(-CLIPS // BATCH)
    killed = (tmp_path / "killed" / "losses.txt").read_text().splitlines()
    assert len(killed) > len(whole)  # what came after the last checkpoint was done again,
    assert set(killed) == set(whole)  # with the same clips and the same bits
    own, other = (torch.load(tmp_path / run / "weights.pt", weights_only=True) for run in ("killed", "whole"))
    assert own.keys() == other.keys()
    assert [name for name in own if not torch.equal(own[name], other[name])] == []
