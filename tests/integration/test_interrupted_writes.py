"""kill -9 in the middle of writing a checkpoint, sixty times: a whole one is always found, and nothing is lost or left."""

from __future__ import annotations

import json
import os

import pytest
from interrupted_writes_job import KILLS
from processes import run_alone


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
def test_a_killed_write_leaves_a_whole_checkpoint(tmp_path):
    run_alone("interrupted_writes_job.py", tmp_path)
    found = json.loads((tmp_path / "found.json").read_text())
    assert len(found) == KILLS >= 50
    for kill in found:
        assert kill["is_whole"], kill
        assert kill["passed_over"] == [], kill  # what is there under its name is whole
        assert kill["told_done"] <= kill["found"] <= kill["told_done"] + 1, kill  # one more: renamed, but not told any more
        assert kill["unfinished"] <= 1, kill  # the next writer takes it away
    in_the_middle = [kill for kill in found if kill["unfinished"]]
    assert len(in_the_middle) >= KILLS // 4, "the kills missed the writes"
    assert found[-1]["found"] > KILLS // 4
