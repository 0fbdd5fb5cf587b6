"""kill -9 at every point of writing a checkpoint: a whole one is always found, and nothing is lost or left."""

from __future__ import annotations

import json
import os

import pytest
from processes import run_alone

POINTS = {"open", "write", "before flush", "before fsync", "behind fsync", "before replace", "behind replace"}
POINTS |= {"before unlink", "behind unlink"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
def test_a_killed_write_leaves_a_whole_checkpoint(tmp_path):
    run_alone("interrupted_writes_job.py", tmp_path)
    *kills, whole = json.loads((tmp_path / "found.json").read_text())
    assert {kill["point"] for kill in kills} == POINTS
    for kill in kills:
        assert kill["is_whole"], kill
        assert kill["passed_over"] == [], kill  # what is there under its name is whole
        # The step's own file is told first, then last.ckpt; that may have its name and not be told yet.
        renamed = kill["done"] == 1 and kill["point"] in ("behind replace", "before unlink", "behind unlink")
        assert kill["found"] == (2 if kill["done"] == 2 or renamed else 1), kill
        own = [name for name in kill["unfinished"] if "other" not in name]
        assert len(own) <= 1, kill
        if kill["point"] in ("open", "write", "before flush", "before fsync", "behind fsync"):
            assert own, kill
        assert kill["left"] == [], kill  # the next writer takes it away
    assert {kill["done"] for kill in kills} == {0, 1, 2}
    assert (whole["point"], whole["done"], whole["found"], whole["unfinished"]) == ("", 2, 2, [])
