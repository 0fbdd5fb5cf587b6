from __future__ import annotations

import re
from pathlib import Path

import pytest

from sslam_lightning.checkpoints.settings import read_class_names
from sslam_lightning.class_names import check_class_names
from sslam_lightning.data import ImageFolderDataModule

NAMES = ("dog", "می\u200cشود", "क्\u200dष", "\N{WOMAN}\u200d\N{PERSONAL COMPUTER}", "10\u00a0Hz", "")


def test_a_class_that_can_be_trained_can_be_read_again() -> None:
    check_class_names(NAMES, "classes")
    assert read_class_names(list(NAMES), "a.ckpt") == NAMES


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31mred", "\udcff", "\x85"])
def test_control_characters_are_refused_before_training_too(tmp_path: Path, name: str) -> None:
    for check in (check_class_names, read_class_names):
        told = f"a.ckpt: the class {name!r} holds a control character or a surrogate"
        with pytest.raises(ValueError, match=re.escape(told)):
            check(["dog", name], "a.ckpt")
    (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match="class_names: the class "):
        ImageFolderDataModule(tmp_path, labeled=True)
