"""Where the reference numbers are.

``SSLAM_REFERENCE=<folder> pytest tests/parity`` takes another folder of the same form. Without it the whole collection
beside the project is used where it exists, else the small cases kept in ``tests/parity/reference``.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_HERE = Path(__file__).parent
_KEPT = _HERE / "reference"
_WHOLE = _HERE.parents[1].parent / "shared" / "reference"


def reference_folder() -> Path:
    named = os.environ.get("SSLAM_REFERENCE")
    folder = Path(named) if named else _WHOLE if (_WHOLE / "cases").is_dir() else _KEPT
    if not any((folder / "cases").glob("*.json")):
        raise pytest.UsageError(f"{folder} holds no cases: expected {folder}/cases/*.json")
    return folder


def case_names(*patterns: str) -> list[str]:
    """The cases that a test is to run, found by the patterns of their file names."""
    folder = reference_folder() / "cases"
    return sorted({path.stem for pattern in patterns for path in folder.glob(pattern + ".json")})
