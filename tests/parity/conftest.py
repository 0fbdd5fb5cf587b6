"""Reads reference cases for the tests, and says which of them were compared."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from reference_data import reference_folder

_ran: set[str] = set()


class Reference:
    """Reads cases, and remembers which ones."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def case(self, name: str) -> dict:
        path = self.folder / "cases" / f"{name}.json"
        if not path.is_file():
            pytest.skip(f"the case {name} is not among the {self.folder.name} cases")
        _ran.add(name)
        return json.loads(path.read_text())

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        return dict(np.load(self.file(f"cases/{name}.npz")))

    def file(self, relative: str) -> Path:
        path = self.folder / relative
        if not path.is_file():
            pytest.skip(f"{relative} is one of the larger reference files and is not here: see SSLAM_REFERENCE")
        return path


@pytest.fixture(scope="session")
def reference() -> Reference:
    return Reference(reference_folder())


def pytest_report_header() -> str:
    return f"parity: reference numbers from {reference_folder()}"


def pytest_sessionfinish(session, exitstatus) -> None:
    """A folder that was named on purpose and none of whose cases was compared is no success."""
    ran_parity = any("parity" in item.nodeid for item in session.items)
    if os.environ.get("SSLAM_REFERENCE") and ran_parity and not _ran and not session.config.option.collectonly:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter) -> None:
    if _ran:
        terminalreporter.write_line(f"parity: compared {len(_ran)} cases: {', '.join(sorted(_ran))}")
