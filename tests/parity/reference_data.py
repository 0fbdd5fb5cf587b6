"""Where the reference numbers are.

``SSLAM_REFERENCE=<folder> pytest tests/parity`` takes another folder of the same form. Without it the whole collection
beside the project is used where it exists, else the small cases kept in ``tests/parity/reference``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

_HERE = Path(__file__).parent
_KEPT = _HERE / "reference"
_WHOLE = _HERE.parents[1].parent / "shared" / "reference"

taken_cases: set[str] = set()  # by the test modules that have been imported


def reference_folder() -> Path:
    named = os.environ.get("SSLAM_REFERENCE")
    folder = Path(named) if named else _WHOLE if (_WHOLE / "cases").is_dir() else _KEPT
    if not any((folder / "cases").glob("*.json")):
        raise pytest.UsageError(f"{folder} holds no cases: expected {folder}/cases/*.json")
    return folder


def all_cases() -> list[str]:
    """Every JSON file of the folder, and every file of arrays that is not ``NAME.npz`` or ``NAME_*.npz`` of one of them."""
    folder = reference_folder() / "cases"
    cases = {path.stem for path in folder.glob("*.json")}
    arrays = {path.stem for path in folder.glob("*.npz")}
    return sorted(cases | {name for name in arrays if not any(f"{name}_".startswith(f"{case}_") for case in cases)})


def case_names(*patterns: str, but: Sequence[str] = ()) -> list[str]:
    """The cases that a test takes, by patterns of their names; a whole family, so that new members are taken too.

    Args:
        patterns: as of file names.
        but: patterns of those among them that another test takes.
    """
    names = [name for name in all_cases() if _any_matches(patterns, name) and not _any_matches(but, name)]
    taken_cases.update(names)
    return names


def _any_matches(patterns: Sequence[str], name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
