"""Recordings on disk, or made up, as batches of waveforms with labels; and folders of images and text."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sslam_lightning.data.audio.read import UnreadableAudio, read_audio
from sslam_lightning.data.audio.resample import resample
from sslam_lightning.data.loading.collate import collate
from sslam_lightning.data.loading.dataset import BrokenClip, ClipDataset, RecordingDataset
from sslam_lightning.data.loading.sampler import EpochSampler
from sslam_lightning.data.manifests.manifest import read_manifest
from sslam_lightning.data.manifests.recordings import Recordings, class_balanced_weights, make_recordings

if TYPE_CHECKING:
    from sslam_lightning.data.manifests.segments import Segment
    from sslam_lightning.data.modules.audio_folder import AudioFolderDataModule
    from sslam_lightning.data.modules.audioset import AudioSetDataModule
    from sslam_lightning.data.modules.base import AudioDataModule
    from sslam_lightning.data.modules.esc50 import ESC50DataModule
    from sslam_lightning.data.modules.images import ImageFolderDataModule
    from sslam_lightning.data.modules.labeled import LabeledClip, LabeledDataModule
    from sslam_lightning.data.modules.mixtures import ESC50MixturesDataModule
    from sslam_lightning.data.modules.sets.dcase2016 import DCASE2016Task2DataModule
    from sslam_lightning.data.modules.sets.event_table import EventTableDataModule
    from sslam_lightning.data.modules.sets.iemocap import IEMOCAPDataModule
    from sslam_lightning.data.modules.sets.spass import SPASSDataModule
    from sslam_lightning.data.modules.sets.speech_commands import SpeechCommandsDataModule
    from sslam_lightning.data.modules.sets.voxceleb import VoxCeleb1DataModule
    from sslam_lightning.data.modules.synthetic import SyntheticDataModule, SyntheticDataset
    from sslam_lightning.data.modules.text import TextDataModule

# Imported on first use, so that who only reads audio need not wait for Lightning.
_HOMES = {
    "AudioDataModule": "sslam_lightning.data.modules.base",
    "AudioFolderDataModule": "sslam_lightning.data.modules.audio_folder",
    "AudioSetDataModule": "sslam_lightning.data.modules.audioset",
    "DCASE2016Task2DataModule": "sslam_lightning.data.modules.sets.dcase2016",
    "ESC50DataModule": "sslam_lightning.data.modules.esc50",
    "EventTableDataModule": "sslam_lightning.data.modules.sets.event_table",
    "IEMOCAPDataModule": "sslam_lightning.data.modules.sets.iemocap",
    "ESC50MixturesDataModule": "sslam_lightning.data.modules.mixtures",
    "Segment": "sslam_lightning.data.manifests.segments",
    "ImageFolderDataModule": "sslam_lightning.data.modules.images",
    "SPASSDataModule": "sslam_lightning.data.modules.sets.spass",
    "SpeechCommandsDataModule": "sslam_lightning.data.modules.sets.speech_commands",
    "LabeledClip": "sslam_lightning.data.modules.labeled",
    "LabeledDataModule": "sslam_lightning.data.modules.labeled",
    "SyntheticDataModule": "sslam_lightning.data.modules.synthetic",
    "SyntheticDataset": "sslam_lightning.data.modules.synthetic",
    "TextDataModule": "sslam_lightning.data.modules.text",
    "VoxCeleb1DataModule": "sslam_lightning.data.modules.sets.voxceleb",
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
