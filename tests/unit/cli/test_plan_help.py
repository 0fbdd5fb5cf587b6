from __future__ import annotations

import pytest

from sslam_lightning.cli.fit.plan import PlanCLI


def test_help_of_plan_names_the_command_and_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        PlanCLI(["--help"])

    told = capsys.readouterr().out
    assert end.value.code == 0
    assert told.startswith("usage: sslam plan ")
    assert "what a run will be" in told
    assert "Lightning Trainer command line tool" not in told
