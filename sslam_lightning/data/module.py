"""What all data modules share: loaders whose order and content depend on the seed alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader

from sslam_lightning.data.audio import ResamplerName, check_resampler
from sslam_lightning.data.broken import BrokenClips
from sslam_lightning.data.collate import collate
from sslam_lightning.data.dataset import ClipDataset, RecordingDataset
from sslam_lightning.data.recordings import class_balanced_weights
from sslam_lightning.data.sampler import EpochSampler
from sslam_lightning.types import Batch

Split = Literal["train", "val", "test"]

_SPLITS: dict[str, tuple[Split, ...]] = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}
_JUDGE_AFTER_CLIPS = 50


class AudioDataModule(LightningDataModule, ABC):
    """Loaders of `Batch` for training, validation, test and prediction.

    A subclass says its classes to this constructor and makes its data sets in `make_dataset`. Training batches are
    shuffled and whole; all others come in order, every clip once over all devices.

    Args:
        class_names: in the order of the labels; empty: no labels.
        multi_label: whether a clip may be of several classes at once.
        batch_size: clips per device and step.
        num_workers: processes that read, per device; 0: read in the main process.
        sample_rate_hz: of the waveforms.
        resampler: "torchaudio" (what the released weights were trained on) or "soxr".
        max_clip_seconds: keep only this much from the start of every file; None: all of it.
        seed: of the order of the clips.
        weighted_sampling: draw clips of rare classes more often; needs samples_per_epoch.
        samples_per_epoch: train on this many clips, drawn anew for every epoch without replacement; None: on all.
        max_broken_share: stop when a larger share of the clips than this cannot be read.

    Raises:
        ValueError: a setting out of its range.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        multi_label: bool,
        batch_size: int = 12,
        num_workers: int = 2,
        sample_rate_hz: int = 16000,
        resampler: ResamplerName = "torchaudio",
        max_clip_seconds: float | None = None,
        seed: int = 0,
        weighted_sampling: bool = False,
        samples_per_epoch: int | None = None,
        max_broken_share: float = 0.2,
    ) -> None:
        super().__init__()
        check_resampler(resampler)
        for name, value, least in (("batch_size", batch_size, 1), ("num_workers", num_workers, 0), ("seed", seed, 0)):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        # Known before setup: the command line hands these on to the model when it builds it.
        self.class_names = tuple(class_names)
        self.num_classes = len(self.class_names)
        self.multi_label = multi_label
        self.sample_rate_hz = sample_rate_hz
        self.resampler: ResamplerName = resampler
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.max_clip_seconds = max_clip_seconds
        self.seed = seed
        self.weighted_sampling = weighted_sampling
        self.samples_per_epoch = samples_per_epoch
        self._first_epoch = 0
        self.broken = BrokenClips(max_broken_share, _JUDGE_AFTER_CLIPS)
        self._datasets: dict[Split, ClipDataset | None] = {}

    @abstractmethod
    def make_dataset(self, split: Split) -> ClipDataset | None:
        """The clips of a split; None where there are none."""

    def dataset(self, split: Split) -> ClipDataset | None:
        """The clips of a split, made once."""
        if split not in self._datasets:
            self._datasets[split] = self.make_dataset(split)
        return self._datasets[split]

    @property
    def broken_clips(self) -> dict[str, str]:
        """Name and reason of every clip that this process could not read so far."""
        return self.broken.reasons

    def read_ahead(self, stage: str) -> None:
        """Read the manifests of a stage where that needs no preparation, for their errors; `setup` has them then."""
        for split in _SPLITS.get(stage, ()):
            self.dataset(split)

    def setup(self, stage: str) -> None:
        """Read the manifests of a stage, so that their errors come before the training."""
        sizes = [len(found) for split in _SPLITS.get(stage, ()) if (found := self.dataset(split)) is not None]
        # a small data set is judged after one pass
        devices = self.trainer.world_size if self.trainer is not None else 1
        self.broken.judge_after = max(1, min([_JUDGE_AFTER_CLIPS, *(size // devices for size in sizes)]))

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled, whole batches."""
        dataset = self.dataset("train")
        if dataset is None:
            raise ValueError(f"{type(self).__name__} has no training data")
        weights = None
        if self.weighted_sampling:
            if not isinstance(dataset, RecordingDataset):
                raise ValueError(f"{type(self).__name__} has no recordings to weigh: set weighted_sampling: false")
            weights = class_balanced_weights(dataset.recordings)
        sampler = EpochSampler(
            len(dataset), self.batch_size, self.seed, weights=weights, samples_per_epoch=self.samples_per_epoch
        )
        sampler.set_epoch(self._first_epoch)
        return self._loader(dataset, sampler)

    def state_dict(self) -> dict[str, Any]:
        """The epoch that a resumed run starts with."""
        return {"epoch": self.trainer.fit_loop.epoch_progress.current.processed if self.trainer else 0}  # type: ignore[attr-defined]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loaders with workers ask for their first clips before Lightning tells them the epoch of a resumed run."""
        self._first_epoch = state_dict["epoch"]

    def val_dataloader(self) -> DataLoader[Batch] | list[Any]:
        """In order, every clip once; an empty list where there is nothing to validate on."""
        return self._ordered_loader(self.dataset("val"))

    def test_dataloader(self) -> DataLoader[Batch] | list[Any]:
        """In order, every clip once; an empty list where there is nothing to test on."""
        return self._ordered_loader(self.dataset("test"))

    def predict_dataloader(self) -> DataLoader[Batch] | list[Any]:
        """The test clips, or else those of validation, or else those of training; in order, every clip once."""
        splits: tuple[Split, ...] = ("test", "val", "train")
        return self._ordered_loader(next((found for s in splits if (found := self.dataset(s)) is not None), None))

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Take note of broken clips, in the main process."""
        if not isinstance(batch, Batch):
            return batch
        # pinning memory turns inner tuples into lists
        batch = batch._replace(names=tuple(batch.names), broken=tuple((name, why) for name, why in batch.broken))
        self.broken.record(batch)
        return batch

    def on_exception(self, exception: BaseException) -> None:
        """An interrupted run names its broken clips too."""
        self.broken.report()

    def teardown(self, stage: str) -> None:
        """Log the clips that could not be read."""
        self.broken.report()

    def _ordered_loader(self, dataset: ClipDataset | None) -> DataLoader[Batch] | list[Any]:
        if dataset is None:
            return []
        return self._loader(dataset, EpochSampler(len(dataset), self.batch_size, shuffle=False, drop_last=False))

    def _loader(self, dataset: ClipDataset, sampler: EpochSampler) -> DataLoader[Any]:
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
            generator=torch.Generator().manual_seed(self.seed),  # else the loader draws from the global one
        )
