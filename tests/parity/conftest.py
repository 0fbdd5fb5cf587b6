"""Reads reference cases for the tests, and says which of them were compared."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from reference_data import reference_folder

_CASE = "parity case"  # a property of a test's report, which reaches the process that sums up

_compared: set[str] = set()
_seen = False  # a test of this folder has run


class Reference:
    """Reads cases, and notes which ones in the test's report."""

    def __init__(self, folder: Path, request: pytest.FixtureRequest) -> None:
        self.folder, self._request = folder, request

    def case(self, name: str) -> dict:
        path = self.folder / "cases" / f"{name}.json"
        if not path.is_file():
            pytest.skip(f"the case {name} is not among the {self.folder.name} cases")
        self._request.node.user_properties.append((_CASE, name))
        return json.loads(path.read_text())

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        return dict(np.load(self.file(f"cases/{name}.npz")))

    def file(self, relative: str) -> Path:
        path = self.folder / relative
        if not path.is_file():
            pytest.skip(f"{relative} is one of the larger reference files and is not here: see SSLAM_REFERENCE")
        return path


@pytest.fixture
def reference(request: pytest.FixtureRequest) -> Reference:
    return Reference(reference_folder(), request)


def pytest_report_header() -> str:
    return f"parity: reference numbers from {reference_folder()}"


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Tests may run in processes of their own; their reports come here."""
    global _seen
    _seen |= "parity/" in report.nodeid
    if report.when == "call" and report.outcome != "skipped":
        _compared.update(value for name, value in report.user_properties if name == _CASE)


def pytest_sessionfinish(session) -> None:
    """A folder that was named on purpose and none of whose cases was compared is no success."""
    if os.environ.get("SSLAM_REFERENCE") and _seen and not _compared:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter) -> None:
    if _compared:
        terminalreporter.write_line(f"parity: compared {len(_compared)} cases: {', '.join(sorted(_compared))}")
