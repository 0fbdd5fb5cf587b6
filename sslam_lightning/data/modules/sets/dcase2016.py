"""DCASE 2016, task 2 (Lagrange et al.): office sounds in synthetic scenes of two minutes, 11 classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sslam_lightning.data.files import find_files
from sslam_lightning.data.loading.event_dataset import Annotated, EventDataModule
from sslam_lightning.data.manifests.annotations import read_event_list
from sslam_lightning.data.manifests.check_layout import expect_folder
from sslam_lightning.data.manifests.segments import duration_seconds
from sslam_lightning.data.modules.base import Split
from sslam_lightning.types import Event

CLASSES = (
    "clearthroat",
    "cough",
    "doorslam",
    "drawer",
    "keyboard",
    "keys",
    "knock",
    "laughter",
    "pageturn",
    "phone",
    "speech",
)

_DEVELOPMENT = "dcase2016_task2_train_dev/dcase2016_task2_dev"
_ISOLATED = "dcase2016_task2_train_dev/dcase2016_task2_train"
_TEST = "dcase2016_task2_test_public"
_FORM = f"DCASE 2016 task 2 is {_DEVELOPMENT}/ and {_TEST}/, each with sound/NAME.wav and annotation/NAME.txt"
# Half of the development scenes, of every kind, on which HEAR 2021 validates (event-to-background ratio, number of events
# a class, polyphony).
_VALIDATION = frozenset(
    f"dev_1_ebr_{ebr}_nec_{nec}_poly_{poly}"
    for ebr, nec, poly in (
        *((-6, 2, 0), (-6, 3, 1), (-6, 5, 1)),
        *((6, 1, 0), (6, 3, 0), (6, 4, 1)),
        *((0, 1, 0), (0, 3, 0), (0, 5, 1)),
    )
)


class DCASE2016Task2DataModule(EventDataModule):
    """DCASE 2016 task 2 in the layout of its two archives, split as in HEAR 2021.

    Half of the development scenes are to train on, half to validate on, the public test scenes to test on. Scenes of 120 s
    are cut into clips.

    Args:
        root: folder that ``dcase2016_task2_train_dev.zip`` and ``dcase2016_task2_test_public.zip`` are unpacked in.
        clip_seconds: length of a clip; 10.24 s is 64 patches of an encoder with frames of 160 ms.
        isolated_sounds: train on the single sounds of ``dcase2016_task2_train/`` too, each an event as long as its file.
        options: settings of `AudioDataModule`.

    Raises:
        FileNotFoundError: a folder or an annotation is missing (at setup).
        ValueError: an annotation of another form, or an isolated sound whose name begins with no class.
    """

    def __init__(
        self, root: str | Path, clip_seconds: float | None = 10.24, isolated_sounds: bool = False, **options: Any
    ) -> None:
        super().__init__(expect_folder(Path(root), _FORM), CLASSES, clip_seconds, **options)
        self.isolated_sounds = isolated_sounds

    def annotated(self, split: Split) -> list[Annotated]:
        scenes = self._scenes(_TEST if split == "test" else _DEVELOPMENT)
        if split == "test":
            return scenes
        scenes = [scene for scene in scenes if (Path(scene.name).stem in _VALIDATION) == (split == "val")]
        return scenes + (self._isolated() if self.isolated_sounds and split == "train" else [])

    def _scenes(self, part: str) -> list[Annotated]:
        folder = expect_folder(self.root / part, _FORM)
        sounds = find_files(expect_folder(folder / "sound", _FORM), (".wav",))
        return [
            Annotated(f"{part}/sound/{name}", read_event_list((folder / "annotation" / name).with_suffix(".txt")))
            for name in sounds
        ]

    def _isolated(self) -> list[Annotated]:
        folder = expect_folder(self.root / _ISOLATED, "isolated_sounds needs the training part of DCASE 2016 task 2")
        files = []
        for name in find_files(folder, (".wav",)):
            label = Path(name).stem.rstrip("0123456789")  # doorslam007.wav
            files.append(Annotated(f"{_ISOLATED}/{name}", [Event(0.0, duration_seconds(folder / name), label)]))
        return files
