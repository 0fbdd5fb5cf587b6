"""Recordings on disk, or made up, as batches of waveforms with labels; and folders of images and text."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sslam_lightning.data.audio import UnreadableAudio, read_audio, resample
from sslam_lightning.data.collate import collate
from sslam_lightning.data.dataset import BrokenClip, ClipDataset, RecordingDataset
from sslam_lightning.data.manifest import read_manifest
from sslam_lightning.data.recordings import Recordings, class_balanced_weights, make_recordings
from sslam_lightning.data.sampler import EpochSampler

if TYPE_CHECKING:
    from sslam_lightning.data.audio_folder import AudioFolderDataModule
    from sslam_lightning.data.audioset import AudioSetDataModule
    from sslam_lightning.data.esc50 import ESC50DataModule
    from sslam_lightning.data.images import ImageFolderDataModule
    from sslam_lightning.data.mixtures import ESC50MixturesDataModule
    from sslam_lightning.data.module import AudioDataModule
    from sslam_lightning.data.synthetic import SyntheticDataModule, SyntheticDataset
    from sslam_lightning.data.text import TextDataModule

# Imported on first use, so that who only reads audio need not wait for Lightning.
_HOMES = {
    "AudioDataModule": "sslam_lightning.data.module",
    "AudioFolderDataModule": "sslam_lightning.data.audio_folder",
    "AudioSetDataModule": "sslam_lightning.data.audioset",
    "ESC50DataModule": "sslam_lightning.data.esc50",
    "ESC50MixturesDataModule": "sslam_lightning.data.mixtures",
    "ImageFolderDataModule": "sslam_lightning.data.images",
    "SyntheticDataModule": "sslam_lightning.data.synthetic",
    "SyntheticDataset": "sslam_lightning.data.synthetic",
    "TextDataModule": "sslam_lightning.data.text",
}

__all__ = [
    "AudioDataModule",
    "AudioFolderDataModule",
    "AudioSetDataModule",
    "BrokenClip",
    "ClipDataset",
    "ESC50DataModule",
    "ESC50MixturesDataModule",
    "EpochSampler",
    "ImageFolderDataModule",
    "RecordingDataset",
    "Recordings",
    "SyntheticDataModule",
    "SyntheticDataset",
    "TextDataModule",
    "UnreadableAudio",
    "class_balanced_weights",
    "collate",
    "make_recordings",
    "read_audio",
    "read_manifest",
    "resample",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
