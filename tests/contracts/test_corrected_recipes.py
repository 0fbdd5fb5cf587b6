"""A corrected recipe is its faithful one with other switches, and every switch is marked: nothing else may drift apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from sslam_lightning.cli.configs import config_folder

CORRECTED = sorted(config_folder().glob("pretrain/*_corrected.yaml"))
_OWN = ("default_root_dir:", "init_from:", "seed_everything:")  # where the runs of each recipe lie


def _settings(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")]


def test_there_are_corrected_recipes():
    assert len(CORRECTED) >= 3


@pytest.mark.parametrize("corrected", CORRECTED, ids=lambda path: path.stem)
def test_only_marked_lines_differ(corrected):
    faithful = corrected.with_stem(corrected.stem.removesuffix("_corrected"))
    published, repaired = _settings(faithful), _settings(corrected)
    marked = 0
    for old, new in zip(published, repaired, strict=True):
        assert old.split(":")[0] == new.split(":")[0]  # the same settings in the same order
        if old.strip().startswith(_OWN):
            continue
        differs = old.split("#")[0].strip() != new.split("#")[0].strip()
        assert differs == ("(+)" in new), new
        marked += differs
    assert marked >= 4
