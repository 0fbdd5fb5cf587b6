"""Recordings on disk, or made up, as batches of waveforms with labels; and folders of images and text."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sslam_lightning.data.audio import UnreadableAudio, read_audio
from sslam_lightning.data.collate import collate
from sslam_lightning.data.dataset import BrokenClip, ClipDataset, RecordingDataset
from sslam_lightning.data.manifest import read_manifest
from sslam_lightning.data.recordings import Recordings, class_balanced_weights, make_recordings
from sslam_lightning.data.resample import resample
from sslam_lightning.data.sampler import EpochSampler

if TYPE_CHECKING:
    from sslam_lightning.data.audio_folder import AudioFolderDataModule
    from sslam_lightning.data.audioset import AudioSetDataModule
    from sslam_lightning.data.esc50 import ESC50DataModule
    from sslam_lightning.data.images import ImageFolderDataModule
    from sslam_lightning.data.labeled_clip import LabeledClip, LabeledDataModule
    from sslam_lightning.data.mixtures import ESC50MixturesDataModule
    from sslam_lightning.data.module import AudioDataModule
    from sslam_lightning.data.segments import Segment
    from sslam_lightning.data.sets.dcase2016 import DCASE2016Task2DataModule
    from sslam_lightning.data.sets.event_table import EventTableDataModule
    from sslam_lightning.data.sets.iemocap import IEMOCAPDataModule
    from sslam_lightning.data.sets.spass import SPASSDataModule
    from sslam_lightning.data.sets.speech_commands import SpeechCommandsDataModule
    from sslam_lightning.data.sets.voxceleb import VoxCeleb1DataModule
    from sslam_lightning.data.synthetic import SyntheticDataModule, SyntheticDataset
    from sslam_lightning.data.text import TextDataModule

# Imported on first use, so that who only reads audio need not wait for Lightning.
_HOMES = {
    "AudioDataModule": "sslam_lightning.data.module",
    "AudioFolderDataModule": "sslam_lightning.data.audio_folder",
    "AudioSetDataModule": "sslam_lightning.data.audioset",
    "DCASE2016Task2DataModule": "sslam_lightning.data.sets.dcase2016",
    "ESC50DataModule": "sslam_lightning.data.esc50",
    "EventTableDataModule": "sslam_lightning.data.sets.event_table",
    "IEMOCAPDataModule": "sslam_lightning.data.sets.iemocap",
    "ESC50MixturesDataModule": "sslam_lightning.data.mixtures",
    "Segment": "sslam_lightning.data.segments",
    "ImageFolderDataModule": "sslam_lightning.data.images",
    "SPASSDataModule": "sslam_lightning.data.sets.spass",
    "SpeechCommandsDataModule": "sslam_lightning.data.sets.speech_commands",
    "LabeledClip": "sslam_lightning.data.labeled_clip",
    "LabeledDataModule": "sslam_lightning.data.labeled_clip",
    "SyntheticDataModule": "sslam_lightning.data.synthetic",
    "SyntheticDataset": "sslam_lightning.data.synthetic",
    "TextDataModule": "sslam_lightning.data.text",
    "VoxCeleb1DataModule": "sslam_lightning.data.sets.voxceleb",
}

__all__ = [
    "AudioDataModule",
    "AudioFolderDataModule",
    "AudioSetDataModule",
    "BrokenClip",
    "ClipDataset",
    "DCASE2016Task2DataModule",
    "ESC50DataModule",
    "ESC50MixturesDataModule",
    "EpochSampler",
    "EventTableDataModule",
    "IEMOCAPDataModule",
    "ImageFolderDataModule",
    "LabeledClip",
    "LabeledDataModule",
    "RecordingDataset",
    "Recordings",
    "SPASSDataModule",
    "Segment",
    "SpeechCommandsDataModule",
    "SyntheticDataModule",
    "SyntheticDataset",
    "TextDataModule",
    "UnreadableAudio",
    "VoxCeleb1DataModule",
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
