"""Any folder of recordings without labels, LibriSpeech for one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sslam_lightning.data.audio.read import READABLE_EXTENSIONS
from sslam_lightning.data.files import find_files
from sslam_lightning.data.manifests.recordings import Recordings, make_recordings
from sslam_lightning.data.modules.base import AudioDataModule, Split


class AudioFolderDataModule(AudioDataModule):
    """All recordings below a folder, for pre-training.

    Args:
        root: folder of the training clips; sub-folders are searched too.
        val_root: folder of the validation clips; None: no validation.
        options: settings of `AudioDataModule`.

    Raises:
        FileNotFoundError: no such folder, or no recording in it (at setup).
    """

    def __init__(self, root: str | Path, val_root: str | Path | None = None, **options: Any) -> None:
        super().__init__(class_names=(), multi_label=True, **options)
        self.folders: dict[Split, str | Path | None] = {"train": root, "val": val_root, "test": val_root}

    def recordings(self, split: Split) -> Recordings | None:
        folder = self.folders[split]
        if folder is None:
            return None
        names = find_files(folder, READABLE_EXTENSIONS)
        return make_recordings(str(folder), names, [[]] * len(names), ())
