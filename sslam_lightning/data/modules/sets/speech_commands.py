"""Speech Commands (Warden, arXiv 1804.03209): spoken words of one second, versions 1 (30 words) and 2 (35 words)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from sslam_lightning.data.files import find_files
from sslam_lightning.data.manifests.check_layout import expect_file, expect_files_of, expect_folder, read_lines
from sslam_lightning.data.manifests.segments import Segment, cut, duration_seconds
from sslam_lightning.data.modules.base import Split
from sslam_lightning.data.modules.labeled import LabeledClip, LabeledDataModule

KEYWORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
UNKNOWN, SILENCE = "_unknown_", "_silence_"

_NOISE = "_background_noise_"
_FORM = "Speech Commands is a folder per word, validation_list.txt, testing_list.txt and _background_noise_/"
_CLIP_SECONDS = 1.0
_SILENCE_SHARES: dict[Split, tuple[float, float]] = {"train": (0.0, 0.8), "val": (0.8, 0.9), "test": (0.9, 1.0)}


class SpeechCommandsDataModule(LabeledDataModule):
    """Speech Commands in its official layout, with its official split.

    In the task ``words`` every word is a class: 35 in version 2, as EAT and SSLAM report. In ``keywords`` there are 12, as
    SUPERB and others report on version 1: ten words, ``_unknown_`` for all others, and ``_silence_``, which is
    ``_background_noise_`` cut into seconds: the first 80 % of each recording for training, 10 % for validation and 10 % for
    the test. With ``test_root`` the test is the separate archive (``speech_commands_test_set_v0.01``), in which unknown
    words and silence have folders of their own and come about as often as a keyword.

    Args:
        root: folder of the data set.
        task: ``words`` or ``keywords``.
        test_root: folder of the separate test archive; for ``keywords`` alone. None: the words of ``testing_list.txt``.
        options: settings of `AudioDataModule`.

    Raises:
        FileNotFoundError: a list, a folder or a file of a list is missing.
        ValueError: an unknown task, or a folder without words.
    """

    def __init__(
        self,
        root: str | Path,
        task: Literal["words", "keywords"] = "words",
        test_root: str | Path | None = None,
        **options: Any,
    ) -> None:
        if task not in ("words", "keywords"):
            raise ValueError(f"task must be words or keywords, got {task!r}")
        if test_root is not None and task == "words":
            raise ValueError("test_root is for task: keywords; the words of testing_list.txt are the test of task: words")
        root = expect_folder(Path(root), _FORM)
        names = [name for name in find_files(root, (".wav",)) if "/" in name and not name.startswith(_NOISE)]
        words = tuple(sorted({_word(name) for name in names}))
        if task == "keywords" and (absent := [word for word in KEYWORDS if word not in words]):
            raise ValueError(f"{root}: no folder {', '.join(absent)}: {_FORM}")
        lists: dict[Split, Path] = {
            "val": expect_file(root / "validation_list.txt", _FORM),
            "test": expect_file(root / "testing_list.txt", _FORM),
        }
        self._names: dict[Split, list[str]] = {split: read_lines(path) for split, path in lists.items()}
        for split, path in lists.items():
            expect_files_of(path, root, self._names[split])
        held_out = {name for split in lists for name in self._names[split]}
        self._names["train"] = [name for name in names if name not in held_out]
        class_names = words if task == "words" else (*KEYWORDS, UNKNOWN, SILENCE)
        super().__init__(root, class_names, multi_label=False, **options)
        self.task = task
        self.test_root = None if test_root is None else expect_folder(Path(test_root), "the archive of test words")
        if task == "keywords":
            expect_folder(root / _NOISE, _FORM)

    def labeled(self, split: Split) -> list[LabeledClip]:
        if split == "test" and self.test_root is not None:
            names = find_files(self.test_root, (".wav",))
            return [
                LabeledClip(Segment(str(self.test_root.absolute() / name)), [self._label(_word(name))]) for name in names
            ]
        words = [LabeledClip(Segment(name), [self._label(_word(name))]) for name in self._names[split]]
        return words + (self._silence(split) if self.task == "keywords" else [])

    def _label(self, word: str) -> str:
        return word if word in self.class_names else UNKNOWN

    def _silence(self, split: Split) -> list[LabeledClip]:
        first, last = _SILENCE_SHARES[split]
        clips = []
        for name in find_files(self.root / _NOISE, (".wav",)):
            path = f"{_NOISE}/{name}"
            seconds = cut(path, duration_seconds(self.root / path), _CLIP_SECONDS)
            clips += seconds[round(first * len(seconds)) : round(last * len(seconds))]
        return [LabeledClip(clip, [SILENCE]) for clip in clips]


def _word(name: str) -> str:
    return name.partition("/")[0]
