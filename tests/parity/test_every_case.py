"""No case of the folder is left lying."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import reference_data
from reference_data import all_cases, case_names, taken_cases


def test_every_case_of_the_folder_is_taken_by_a_test():
    """Modules take cases where they name the families that they compare, with `case_names`."""
    modules = sorted(path.stem for path in Path(__file__).parent.glob("test_*.py"))
    assert len(modules) > 5
    for module in modules:
        importlib.import_module(module)
    left = sorted(set(all_cases()) - taken_cases)
    assert not left, f"no test takes {', '.join(left)}"


def test_what_belongs_to_a_case_and_what_is_one(tmp_path, monkeypatch):
    (tmp_path / "cases").mkdir()
    for name in ("loss_a", "loss_ab", "loss_a_features"):
        (tmp_path / "cases" / f"{name}.json").write_text("{}")
    for name in ("loss_a", "loss_a_init", "loss_abc", "mels"):
        np.savez(tmp_path / "cases" / f"{name}.npz")
    monkeypatch.setenv("SSLAM_REFERENCE", str(tmp_path))
    monkeypatch.setattr(reference_data, "taken_cases", set())
    assert all_cases() == ["loss_a", "loss_a_features", "loss_ab", "loss_abc", "mels"]
    assert case_names("loss_*", but=["*_features"]) == ["loss_a", "loss_ab", "loss_abc"]
    assert reference_data.taken_cases == {"loss_a", "loss_ab", "loss_abc"}
