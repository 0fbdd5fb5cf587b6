"""``sslam demo`` from its first command to its table and picture, with two updates a run."""

from __future__ import annotations

import os
import re
from typing import Any

import matplotlib.image
import pytest

from sslam_lightning.__main__ import main
from sslam_lightning.cli import demo

SHORT = ("--trainer.max_steps=2", "--trainer.log_every_n_steps=1", "--data.num_train=16", "--data.num_val=8")


def test_every_step_runs_and_is_told(tmp_path, monkeypatch, capsys) -> None:
    whole = demo.command
    monkeypatch.setattr(demo, "command", lambda *args, **kwargs: [*whole(*args, **kwargs), *SHORT])
    folder = tmp_path / "demo"
    main(["demo", "--folder", str(folder), "--seed", "3"])
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in (folder / "results.md").read_text().splitlines()]
    assert rows[0] == ["run", "loss at start", "loss at end", "test mAP"]
    told: dict[str, Any] = {row[0]: row[1:] for row in rows[2:] if len(row) == 4}
    assert list(told) == [step.title for step in demo.STEPS]
    for step in demo.STEPS:
        start, end, score = told[step.title]
        assert re.fullmatch(r"\d+\.\d{3}", start)
        assert re.fullmatch(r"\d+\.\d{3}", end)
        assert bool(re.fullmatch(r"0\.\d{3}", score)) == step.tested, step.title
    picture = matplotlib.image.imread(folder / "predictions.png")
    assert picture.shape[0] > 300
    assert picture[..., :3].std() > 0.05  # something is drawn
    printed = capsys.readouterr().out
    assert printed.count("sslam fit --config") == len(demo.STEPS)  # what it does can be done by hand
    assert "seed 3" in printed
    with pytest.raises(SystemExit):
        main(["demo", "--folder", str(folder)])
    assert f"{folder} exists already" in capsys.readouterr().err


def test_an_interrupted_demo_says_how_it_goes_on(tmp_path, monkeypatch, capsys) -> None:
    def interrupted(args: list[str]) -> None:
        assert os.environ["GOMP_SPINCOUNT"] == "7"  # what the user has set stays
        raise KeyboardInterrupt

    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    monkeypatch.setattr(demo, "run_trainer", interrupted)
    with pytest.raises(KeyboardInterrupt):
        main(["demo", "--folder", str(tmp_path / "demo")])
    told = f"sslam: the demo itself begins anew: remove {tmp_path / 'demo'} first, or name another folder with --folder"
    assert capsys.readouterr().err.splitlines()[-1] == told


def test_threads_that_wait_do_not_spin_for_long(tmp_path, monkeypatch) -> None:
    def stop(args: list[str]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setenv("GOMP_SPINCOUNT", "")
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setattr(demo, "run_trainer", stop)
    with pytest.raises(KeyboardInterrupt):
        main(["demo", "--folder", str(tmp_path / "demo")])
    assert os.environ["GOMP_SPINCOUNT"] == "1000"
