"""URBAN-SED (Salamon et al., WASPAA 2017): 10 000 soundscapes of 10 s made with Scaper, ten classes of urban sound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sslam_lightning.data.annotations import read_recording_events
from sslam_lightning.data.event_dataset import Annotated, EventDataModule
from sslam_lightning.data.files import find_files
from sslam_lightning.data.layout import expect_folder
from sslam_lightning.data.module import Split

CLASSES = (
    "air_conditioner",
    "car_horn",
    "children_playing",
    "dog_bark",
    "drilling",
    "engine_idling",
    "gun_shot",
    "jackhammer",
    "siren",
    "street_music",
)

_FORM = "URBAN-SED is audio/SPLIT/NAME.wav and annotations/SPLIT/NAME.txt (or .jams), SPLIT train, validate and test"
_FOLDER_OF: dict[Split, str] = {"train": "train", "val": "validate", "test": "test"}


class URBANSEDDataModule(EventDataModule):
    """URBAN-SED in its official layout (``URBAN-SED_v2.0.0``), with its three official parts: tags and events.

    Args:
        root: folder of the data set.
        clip_seconds: cut the recordings into clips of this length; None: a recording is a clip.
        options: settings of `AudioDataModule`.

    Raises:
        FileNotFoundError: a folder or an annotation is missing (at setup).
        ValueError: an annotation of another form.
    """

    def __init__(self, root: str | Path, clip_seconds: float | None = None, **options: Any) -> None:
        super().__init__(expect_folder(Path(root), _FORM), CLASSES, clip_seconds, **options)

    def annotated(self, split: Split) -> list[Annotated]:
        """The recordings of a part."""
        part = _FOLDER_OF[split]
        audio = expect_folder(self.root / "audio" / part, _FORM)
        annotations = expect_folder(self.root / "annotations" / part, _FORM)
        files = []
        for name in find_files(audio, (".wav",)):
            jams = (annotations / name).with_suffix(".jams")
            text = jams.with_suffix(".txt")
            found = jams if jams.is_file() and not text.is_file() else text
            files.append(Annotated(f"audio/{part}/{name}", read_recording_events(found)))
        return files
