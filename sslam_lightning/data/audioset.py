"""AudioSet, and any other data set that comes as fairseq manifests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sslam_lightning.data.dataset import RecordingDataset
from sslam_lightning.data.descriptors import read_class_table
from sslam_lightning.data.manifest import MissingFiles, read_manifest
from sslam_lightning.data.module import AudioDataModule, Split


class AudioSetDataModule(AudioDataModule):
    """Recordings of ``.tsv`` manifests with multi-label ``.lbl`` files (see `sslam_lightning.data.manifest`).

    Args:
        train_manifest: ``.tsv`` of the training clips.
        val_manifest: ``.tsv`` of the validation clips; None: no validation.
        test_manifest: ``.tsv`` of the test clips; None: the validation clips.
        label_descriptors: table of classes; None: recordings without labels, for pre-training.
        train_labels: ``.lbl`` of the training clips; None: beside its manifest, of the same stem. Likewise below.
        val_labels: ``.lbl`` of the validation clips.
        test_labels: ``.lbl`` of the test clips.
        missing_files: "error", or "skip" to leave out rows without a file together with their labels.
        options: settings of `AudioDataModule`.

    Raises:
        FileNotFoundError: no such table (now), manifest, label file or recording (at setup).
        ValueError: a malformed one.
    """

    def __init__(
        self,
        train_manifest: str | Path,
        val_manifest: str | Path | None = None,
        test_manifest: str | Path | None = None,
        label_descriptors: str | Path | None = None,
        train_labels: str | Path | None = None,
        val_labels: str | Path | None = None,
        test_labels: str | Path | None = None,
        missing_files: MissingFiles = "error",
        **options: Any,
    ) -> None:
        table = None if label_descriptors is None else read_class_table(label_descriptors)
        super().__init__(class_names=table.names if table else (), multi_label=True, **options)
        self.table = table
        self.missing_files: MissingFiles = missing_files
        self.files: dict[Split, tuple[str | Path | None, str | Path | None]] = {
            "train": (train_manifest, train_labels),
            "val": (val_manifest, val_labels),
            "test": (test_manifest, test_labels) if test_manifest is not None else (val_manifest, val_labels),
        }

    def make_dataset(self, split: Split) -> RecordingDataset | None:
        """Read the manifest of a split."""
        manifest, labels = self.files[split]
        if manifest is None:
            return None
        recordings = read_manifest(manifest, labels, self.table, self.missing_files)
        return RecordingDataset(recordings, self.sample_rate_hz, self.resampler, self.max_clip_seconds)
