"""AudioSet, and any other data set that comes as manifests or shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sslam_lightning.data.manifests.class_map import read_class_table
from sslam_lightning.data.manifests.manifest import MissingFiles, read_manifest
from sslam_lightning.data.manifests.recordings import Recordings
from sslam_lightning.data.manifests.weights import with_weights
from sslam_lightning.data.modules.base import AudioDataModule, Split
from sslam_lightning.data.shards.read import ORIGINAL, is_shard_folder, read_shards


class AudioSetDataModule(AudioDataModule):
    """Recordings of manifests or shards, with several labels each or one; local, or wherever fsspec reads.

    For manifests see `sslam_lightning.data.manifests.manifest`; a folder of shards
    (`sslam_lightning.data.shards.read`) may replace each.

    Args:
        train_manifest: the training clips.
        val_manifest: the validation clips; None: no validation.
        test_manifest: the test clips; None: the validation clips.
        class_map: table of classes; None: recordings without labels, for pre-training.
        train_labels: ``.lbl`` of the training clips; None: the labels in the manifest or the shards, or the ``.lbl`` next
            to the manifest, of the same stem; the same below.
        val_labels: ``.lbl`` of the validation clips.
        test_labels: ``.lbl`` of the test clips.
        missing_files: "error", or "skip" to leave out rows without a file together with their labels.
        multi_label: whether a clip may be of several classes (mAP, binary cross entropy), or is of exactly one (accuracy,
            cross entropy), as those of ``sslam data import folders``.
        sampling_weights: table of ``sslam data stats`` with a weight for every training clip, for ``weighted_sampling``;
            None: counted from the labels.
        options: settings of `AudioDataModule`.

    Raises:
        FileNotFoundError: no such table (now), manifest, label file or recording (at setup).
        ValueError: a malformed one, a clip that is not of one class where ``multi_label`` is false, or shards that were
            packed for another rate, resampler or length.
    """

    def __init__(
        self,
        train_manifest: str | Path,
        val_manifest: str | Path | None = None,
        test_manifest: str | Path | None = None,
        class_map: str | Path | None = None,
        train_labels: str | Path | None = None,
        val_labels: str | Path | None = None,
        test_labels: str | Path | None = None,
        missing_files: MissingFiles = "error",
        sampling_weights: str | Path | None = None,
        multi_label: bool = True,
        **options: Any,
    ) -> None:
        table = None if class_map is None else read_class_table(class_map)
        if not multi_label and table is None:
            raise ValueError("multi_label: false is about labels, and there are none: set class_map")
        super().__init__(class_names=table.names if table else (), multi_label=multi_label, **options)
        self.table = table
        self.missing_files: MissingFiles = missing_files
        self.sampling_weights = sampling_weights
        self.files: dict[Split, tuple[str | Path | None, str | Path | None]] = {
            "train": (train_manifest, train_labels),
            "val": (val_manifest, val_labels),
            "test": (test_manifest, test_labels) if test_manifest is not None else (val_manifest, val_labels),
        }

    def recordings(self, split: Split) -> Recordings | None:
        manifest, labels = self.files[split]
        if manifest is None:
            return None
        if is_shard_folder(str(manifest)):
            recordings = self._packed(str(manifest), labels)
        else:
            recordings = read_manifest(manifest, labels, self.table, self.missing_files)
        if split == "train" and self.sampling_weights is not None:
            recordings = with_weights(recordings, str(self.sampling_weights))
        return recordings

    def _packed(self, folder: str, labels: str | Path | None) -> Recordings:
        if labels is not None:
            raise ValueError(f"{folder} holds shards, whose labels are inside; give no label file ({labels})")
        recordings = read_shards(folder, self.table)
        if recordings.about["codec"] != ORIGINAL:
            self._check_packing(folder, recordings.about)
        return recordings

    def _check_packing(self, folder: str, about: dict[str, Any]) -> None:
        method, rate_hz, seconds = about["resampler"], about["sample_rate_hz"], about["max_clip_seconds"]
        if method != self.resampler:
            raise ValueError(f"{folder} was resampled by {method}: set data.resampler to {method}, or pack again")
        if rate_hz != self.sample_rate_hz:
            raise ValueError(f"{folder} holds {rate_hz} Hz, data.sample_rate_hz is {self.sample_rate_hz}: pack again")
        if seconds is not None and (self.max_clip_seconds is None or seconds < self.max_clip_seconds):
            raise ValueError(
                f"{folder} was cut to {seconds:g} s a clip, data.max_clip_seconds is {self.max_clip_seconds}: "
                f"set it to {seconds:g}, or pack again"
            )
