"""What all data modules share: loaders whose order and content depend on the seed alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from lightning import LightningDataModule
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, distributed

from sslam_lightning.class_names import check_class_names
from sslam_lightning.data.audio.resample import check_resampler
from sslam_lightning.data.loading.collate import collate
from sslam_lightning.data.loading.dataset import ClipDataset, RecordingDataset
from sslam_lightning.data.loading.loader import ClipLoader
from sslam_lightning.data.loading.sampler import EpochSampler, LastBatch
from sslam_lightning.data.loading.unreadable import UnreadableClips
from sslam_lightning.data.manifests.recordings import Recordings, class_balanced_weights
from sslam_lightning.data.train_overlap import fingerprint, train_overlap
from sslam_lightning.types import AnyBatch, ResamplerName
from sslam_lightning.whole_numbers import check_at_least

Split = Literal["train", "val", "test"]

_SPLITS: dict[str, tuple[Split, ...]] = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}
_JUDGE_AFTER_CLIPS = 50
_MAX_REASONS_KEPT = 10_000  # in a checkpoint


class AudioDataModule(LightningDataModule):
    """Loaders of `Batch` for training, validation, test and prediction.

    A subclass lists its clips in `recordings`, or makes data sets of its own in `make_dataset`. Training batches are
    shuffled and full, and every clip comes once in an epoch, except those that fill up its last batch; all others come in
    order, every clip once over all devices. A clip that cannot be read, or is too short for the model, is left out with its
    label, counted, and named at the end.

    Args:
        class_names: in the order of the labels; empty: no labels.
        multi_label: whether a clip may be of several classes at once.
        batch_size: clips per device and step.
        num_workers: processes that read, per device; 0: read in the main process.
        sample_rate_hz: of the waveforms.
        resampler: "torchaudio" (what the released weights were trained on) or "soxr".
        max_clip_seconds: keep only this much from the start of every file; None: all of it.
        min_clip_seconds: leave shorter clips out, like those that are too short for the model.
        seed: of the order of the clips.
        weighted_sampling: draw clips of rare classes more often; needs samples_per_epoch.
        samples_per_epoch: train on this many clips, drawn for every epoch without replacement; None: on all.
        last_batch: the clips that do not fill an epoch's last step over all devices: "pad" fills it with the first clips of
            the epoch, which so come twice; "drop" leaves them out of this epoch.
        max_unreadable_fraction: stop when a larger share of the clips than this cannot be read.
        worker_timeout_seconds: stop when the workers deliver nothing for this long; 0: wait for ever.

    Raises:
        ValueError: a setting out of its range, or a class whose name holds a control character.
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
        last_batch: Literal["pad", "drop"] = "pad",
        max_unreadable_fraction: float = 0.2,
        worker_timeout_seconds: float = 600.0,
        min_clip_seconds: float = 0.0,
    ) -> None:
        super().__init__()
        check_resampler(resampler)
        check_class_names(class_names, "class_names")
        check_at_least(1, batch_size=batch_size)
        check_at_least(0, num_workers=num_workers, seed=seed)
        for name, seconds in (("worker_timeout", worker_timeout_seconds), ("min_clip", min_clip_seconds)):
            if seconds < 0:
                raise ValueError(f"{name}_seconds must be at least 0, got {seconds}")
        if max_clip_seconds is not None and min_clip_seconds > max_clip_seconds:
            raise ValueError(f"min_clip_seconds {min_clip_seconds:g} is more than max_clip_seconds {max_clip_seconds:g}")
        if last_batch not in ("pad", "drop"):
            raise ValueError(f"last_batch must be pad or drop in training, got {last_batch!r}")
        # Known before setup: the command line links these to the model.
        self.class_names = tuple(class_names)
        self.num_classes = len(self.class_names)
        self.multi_label = multi_label
        self.sample_rate_hz = sample_rate_hz
        self.resampler: ResamplerName = resampler
        self.batch_size, self.num_workers = batch_size, num_workers
        self.max_clip_seconds, self.min_clip_seconds = max_clip_seconds, min_clip_seconds
        self.seed = seed
        self.weighted_sampling, self.samples_per_epoch = weighted_sampling, samples_per_epoch
        self.last_batch: LastBatch = last_batch
        self.worker_timeout_seconds = worker_timeout_seconds
        self.min_samples = 1  # of a clip; the model raises it when it is set up
        self.broken = UnreadableClips(max_unreadable_fraction, _JUDGE_AFTER_CLIPS)
        self._datasets: dict[Split, ClipDataset | None] = {}
        self._trained_on: Tensor | None = None

    def recordings(self, split: Split) -> Recordings | None:
        """The files and labels of a split; None where there are none."""
        raise NotImplementedError

    def make_dataset(self, split: Split) -> ClipDataset | None:
        """The clips of a split; None where there are none.

        Raises:
            ValueError: a recording that is not of exactly one class, where ``multi_label`` is false.
        """
        recordings = self.recordings(split)
        if recordings is None:
            return None
        if not self.multi_label:
            _check_one_label(recordings, split)
        return RecordingDataset(recordings, self.sample_rate_hz, self.resampler, self.max_clip_seconds)

    def dataset(self, split: Split) -> ClipDataset | None:
        """The clips of a split, made once."""
        if split not in self._datasets:
            self._datasets[split] = self.make_dataset(split)
        return self._datasets[split]

    @property
    def unreadable_clips(self) -> dict[str, str]:
        """Name and reason of every clip that this process could not read so far; after a run, rank 0 has all."""
        return self.broken.reasons

    def read_ahead(self, stage: str) -> None:
        """Make a stage's data sets where that needs no preparation, to meet their errors early."""
        for split in _SPLITS.get(stage, ()):
            self.dataset(split)

    def setup(self, stage: str) -> None:
        sizes = [len(clips) for split in _SPLITS.get(stage, ()) if (clips := self.dataset(split)) is not None]
        self.broken.judge_after = min([_JUDGE_AFTER_CLIPS, *sizes])  # a small data set is judged after one pass

    def train_dataloader(self) -> ClipLoader:
        dataset = self.dataset("train")
        if dataset is None:
            raise ValueError(f"{type(self).__name__} has no training data")
        weights = None
        if self.weighted_sampling:
            if not isinstance(dataset, RecordingDataset):
                raise ValueError(f"{type(self).__name__} has no recordings to weigh: set weighted_sampling: false")
            weights = class_balanced_weights(dataset.recordings)
        sampler = EpochSampler(
            len(dataset),
            self.batch_size,
            self.seed,
            last_batch=self.last_batch,
            accumulated=1 if self.trainer is None else self.trainer.accumulate_grad_batches,
            weights=weights,
            samples_per_epoch=self.samples_per_epoch,
        )
        return self._loader(dataset, sampler)

    def val_dataloader(self) -> ClipLoader | list[Any]:
        return self._ordered_loader(self.dataset("val"))

    def test_dataloader(self) -> ClipLoader | list[Any]:
        return self._ordered_loader(self.dataset("test"))

    def predict_dataloader(self) -> ClipLoader | list[Any]:
        """The test clips, or else those of validation, or else those of training."""
        splits: tuple[Split, ...] = ("test", "val", "train")
        return self._ordered_loader(next((clips for s in splits if (clips := self.dataset(s)) is not None), None))

    def whole_split(self, split: Split) -> ClipLoader:
        """All clips of a split in order, the same on every rank.

        Raises:
            ValueError: there are none.
        """
        dataset = self.dataset(split)
        if dataset is None:
            raise ValueError(f"{type(self).__name__} has no clips for {split}")
        return self._loader(
            dataset, EpochSampler(len(dataset), self.batch_size, shuffle=False, last_batch="keep", world=1, rank=0)
        )

    def collate_function(self) -> Callable[..., AnyBatch]:
        """The loaders' ``collate_fn``, which leaves out clips that are too short for the model."""
        min_samples = round(self.min_clip_seconds * self.sample_rate_hz)
        if min_samples > self.min_samples:
            return partial(collate, min_samples=min_samples, needed_by="data.min_clip_seconds")
        return partial(collate, min_samples=self.min_samples)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Count broken clips, in the main process."""
        if not isinstance(batch, AnyBatch):
            return batch
        # pinning memory turns inner tuples into lists
        batch = batch._replace(names=tuple(batch.names), broken=tuple((name, why) for name, why in batch.broken))
        trainer = self.trainer
        self.broken.record(batch, training=trainer is not None and trainer.training)
        if trainer is None or trainer.world_size == 1:  # ranks judge together, see `UnreadableClipMonitor`
            self.broken.judge()
        return batch

    def on_exception(self, exception: BaseException) -> None:
        self.broken.report()

    def teardown(self, stage: str) -> None:
        everywhere = self._broken_on_all_ranks()
        self.broken = everywhere if self._is_first_rank else self.broken.like()
        self.broken.report()

    def state_dict(self) -> dict[str, Any]:
        """The broken clips so far, of all ranks, and a fingerprint of the training data."""
        broken = self._broken_on_all_ranks().state_dict(_MAX_REASONS_KEPT)
        if self._trained_on is None and (dataset := self.dataset("train")) is not None:
            self._trained_on = fingerprint(dataset.paths())
        return {"broken": broken, "trained_on": self._trained_on}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue to count, on one rank, where training continues; elsewhere warn of clips that were trained on."""
        training = self.trainer is None or self.trainer.state.fn == TrainerFn.FITTING
        if training and self._is_first_rank and "broken" in state_dict:
            self.broken.add(state_dict["broken"])
        if not training and (trained_on := state_dict.get("trained_on")) is not None:
            self._warn_of_known_clips(trained_on)

    def _warn_of_known_clips(self, trained_on: Tensor) -> None:
        stage = self.trainer.state.fn if self.trainer else None
        for split in _SPLITS.get(stage.value if stage else "", ()):
            dataset = self.dataset(split)
            if dataset is not None and (known := train_overlap(dataset.paths(), trained_on)):
                rank_zero_warn(
                    f"{len(known)} or more of these {len(dataset)} clips are among those that the checkpoint was trained "
                    f"on, for example {known[0]}: the scores say little about new clips"
                )

    @property
    def _is_first_rank(self) -> bool:
        return self.trainer is None or self.trainer.is_global_zero

    def _broken_on_all_ranks(self) -> UnreadableClips:
        if not distributed.is_available() or not distributed.is_initialized():
            return self.broken
        everywhere = self.broken.like()
        states: list[Any] = [None] * distributed.get_world_size()
        distributed.all_gather_object(states, self.broken.state_dict())
        for state in states:
            everywhere.add(state)
        return everywhere

    def _ordered_loader(self, dataset: ClipDataset | None) -> ClipLoader | list[Any]:
        if dataset is None:
            return []
        return self._loader(dataset, EpochSampler(len(dataset), self.batch_size, shuffle=False, last_batch="keep"))

    def _loader(self, dataset: ClipDataset, sampler: EpochSampler) -> ClipLoader:
        return ClipLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=self.collate_function(),
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
            timeout=self.worker_timeout_seconds if self.num_workers else 0,
            generator=torch.Generator().manual_seed(self.seed),  # else the loader draws from the global one
        )


def _check_one_label(recordings: Recordings, split: Split) -> None:
    others = np.flatnonzero(np.diff(recordings.label_start) != 1)
    if len(others):
        first = int(others[0])
        classes = [recordings.class_names[number] for number in recordings.classes(first)]
        raise ValueError(
            f"the {split} clip {recordings.names[first]} has {len(classes)} labels ({'; '.join(classes) or 'none'}), but "
            f"with multi_label: false every clip has exactly one; {len(others)} of {len(recordings)} clips have not"
        )
