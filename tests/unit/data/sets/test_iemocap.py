from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sslam_lightning.data import IEMOCAPDataModule

# A dialog's file of evaluations: a header, then an utterance and the votes on it.
EVALUATION = """\
% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

[6.2901 - 8.2357]\t{0}_F000\tneu\t[2.5000, 2.5000, 2.5000]
C-E2:\tNeutral;\t()
[10.0100 - 11.3925]\t{0}_F001\texc\t[2.5000, 2.5000, 2.5000]
[11.3926 - 12.0000]\t{0}_F002\thap\t[2.5000, 2.5000, 2.5000]
[14.8872 - 18.0175]\t{0}_M000\txxx\t[2.5000, 3.0000, 3.0000]
[19.2900 - 20.7875]\t{0}_M001\tfru\t[2.0000, 3.5000, 3.5000]
[21.3257 - 24.7400]\t{0}_M002\tang\t[2.0000, 3.5000, 3.5000]
[24.8000 - 25.0000]\t{0}_M003\tsad\t[2.0000, 3.5000, 3.5000]
"""
KEPT = ("F000", "F001", "F002", "M002", "M003")


@pytest.fixture
def root(tmp_path: Path, write_sound: Callable[..., Path]) -> Path:
    for session in range(1, 6):
        dialog = f"Ses0{session}F_impro01"
        folder = tmp_path / f"iemocap/Session{session}/dialog/EmoEvaluation"
        folder.mkdir(parents=True)
        (folder / f"{dialog}.txt").write_text(EVALUATION.format(dialog))
        (folder / f"._{dialog}.txt").write_bytes(b"\x00\x05\x16\x07 no text")
        for take in (*KEPT, "M000", "M001"):
            write_sound(f"iemocap/Session{session}/sentences/wav/{dialog}/{dialog}_{take}.wav", seconds=0.05)
    return tmp_path / "iemocap"


def test_four_emotions_in_five_folds(root: Path) -> None:
    data = IEMOCAPDataModule(root, fold=3, num_workers=0)
    assert (data.class_names, data.multi_label) == (("neutral", "happy", "angry", "sad"), False)
    (batch,) = data.test_dataloader()
    dialog = "Session3/sentences/wav/Ses03F_impro01/Ses03F_impro01"
    assert batch.names == tuple(f"{dialog}_{take}.wav" for take in KEPT)
    assert batch.labels.argmax(dim=1).tolist() == [0, 1, 1, 2, 3]  # excited counts as happy
    assert list(data.dataset("val").recordings.names) == list(batch.names)
    train = list(data.dataset("train").recordings.names)
    assert len(train) == 4 * len(KEPT)
    assert {name.split("/")[0] for name in train} == {"Session1", "Session2", "Session4", "Session5"}


def test_what_is_missing_is_said(root: Path) -> None:
    with pytest.raises(ValueError, match="fold must be one of them, not 6"):
        IEMOCAPDataModule(root, fold=6)
    (root / "Session2/sentences/wav/Ses02F_impro01/Ses02F_impro01_M003.wav").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"EmoEvaluation: 1 of 5 files do not exist, the first is .*impro01_M003\.wav"
    ):
        IEMOCAPDataModule(root)
    annotation = root / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    annotation.write_text("% nothing\n")
    with pytest.raises(ValueError, match=r"Session1/dialog/EmoEvaluation: no recordings in it"):
        IEMOCAPDataModule(root)
    annotation.unlink()
    annotation.with_name(f"._{annotation.name}").unlink()
    annotation.parent.rmdir()
    with pytest.raises(
        FileNotFoundError, match=r"no folder .*Session1/dialog/EmoEvaluation: IEMOCAP is SessionN/sentences"
    ):
        IEMOCAPDataModule(root)
