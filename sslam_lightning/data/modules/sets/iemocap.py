"""IEMOCAP (Busso et al., 2008): acted emotional speech in five sessions of two speakers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sslam_lightning.data.manifests.check_layout import expect_files_of, expect_folder, read_lines
from sslam_lightning.data.manifests.segments import Segment
from sslam_lightning.data.modules.base import Split
from sslam_lightning.data.modules.labeled import LabeledClip, LabeledDataModule

SESSIONS = (1, 2, 3, 4, 5)
CLASS_OF = {"neu": "neutral", "hap": "happy", "exc": "happy", "ang": "angry", "sad": "sad"}

_FORM = "IEMOCAP is SessionN/sentences/wav/DIALOG/UTTERANCE.wav and SessionN/dialog/EmoEvaluation/DIALOG.txt, N 1 to 5"
# [6.2901 - 8.2357]  Ses01F_impro01_F000  neu  [2.5000, 2.5000, 2.5000]
_UTTERANCE = re.compile(r"\[\d+\.\d+ - \d+\.\d+\]\t(?P<name>\S+)\t(?P<emotion>\w+)\t\[.*")


class IEMOCAPDataModule(LabeledDataModule):
    """Four emotions, as in SUPERB (Yang et al., Interspeech 2021): neutral, happy, angry and sad, excited counted as happy.

    5531 of the utterances have one of these; the others are left out. Every session is the test of one fold.

    Args:
        root: folder of the data set, ``IEMOCAP_full_release``.
        fold: the session to validate and test on; training is on the other four.
        options: settings of `AudioDataModule`.

    Raises:
        FileNotFoundError: a session, a folder or a recording is missing.
        ValueError: no such session, or annotations without an utterance.
    """

    def __init__(self, root: str | Path, fold: int = 1, **options: Any) -> None:
        if fold not in SESSIONS:
            raise ValueError(f"IEMOCAP has the sessions 1 to 5, fold must be one of them, not {fold}")
        super().__init__(Path(root), tuple(dict.fromkeys(CLASS_OF.values())), multi_label=False, **options)
        self.fold = fold
        self._utterances = {session: _read_session(self.root, session) for session in SESSIONS}

    def labeled(self, split: Split) -> list[LabeledClip]:
        sessions = [session for session in SESSIONS if (session == self.fold) == (split != "train")]
        return [utterance for session in sessions for utterance in self._utterances[session]]


def _read_session(root: Path, session: int) -> list[LabeledClip]:
    annotations = expect_folder(root / f"Session{session}" / "dialog" / "EmoEvaluation", _FORM)
    rows = []
    for dialog in sorted(annotations.glob("[!.]*.txt")):  # the archive also holds hidden files of macOS
        for line in read_lines(dialog):
            found = _UTTERANCE.fullmatch(line)
            if found and found["emotion"] in CLASS_OF:
                file = f"Session{session}/sentences/wav/{dialog.stem}/{found['name']}.wav"
                rows.append(LabeledClip(Segment(file), [CLASS_OF[found["emotion"]]]))
    expect_files_of(annotations, root, [row.clip.name for row in rows])
    return rows
