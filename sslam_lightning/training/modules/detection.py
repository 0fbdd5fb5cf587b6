"""Sound event detection: the pre-trained encoder with a head that predicts every frame."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from sslam_lightning.augment import SpecAugment
from sslam_lightning.data.loading.event_dataset import EventDataset, places_of
from sslam_lightning.events import Collars, EventDecoding, FrameActivity, event_scores, frame_labels, join_clips
from sslam_lightning.events.scores import mir_eval_transcription
from sslam_lightning.features import LogMels
from sslam_lightning.features.fbank import hop_samples
from sslam_lightning.models import EncoderConfig, FrameHead
from sslam_lightning.training.callbacks import EventWriter
from sslam_lightning.training.modules.finetune import FinetuneModule
from sslam_lightning.training.run.optimizers import OptimizerConfig
from sslam_lightning.types import AnyBatch, Batch, Event


class FrameTargets(NamedTuple):
    """What the frames of a batch should be."""

    labels: Float[Tensor, "clips frames classes"]
    num_frames: Int[Tensor, "clips"]  # those behind are padding and neither learnt nor judged


class DetectionModule(FinetuneModule):
    """Which classes are heard in every frame: binary cross entropy per frame, from onsets and offsets.

    Frames are the encoder's own, one a column of patches: 160 ms for 16 frames of log-mels. Evaluation puts the clips of a
    recording together, reads the events off (``decoding``) and compares them with the annotated ones (``collars``):
    ``event_F1`` by onset and offset, ``event_F1_macro`` its mean over classes, ``onset_F1`` by onset alone, ``segment_F1``
    by what is heard in every second. ``decoding`` and ``collars`` are no part of a checkpoint, so that they can be changed
    behind training.

    Args:
        encoder: size and switches; drop path belongs here.
        features: log-mels and their normalization.
        num_classes: number of classes; the command line takes it from the data module.
        class_names: what events are called; from the data module likewise.
        spec_augment: stripes of the log-mels set to zero; None leaves it out.
        decoding: from probabilities to events.
        collars: what counts as agreement with an annotated event.
        frozen_encoder: train the head alone.
        frozen_drop_path: leave drop path on in a frozen encoder.
        optimizer: AdamW, its schedule and layer decay.
        init_from: a checkpoint to take the encoder from, and the head where it fits; as for `FinetuneModule`.
        init_encoder: the checkpoint's ``student`` or its ``teacher``.
        resampler: how the data was brought to the model's rate; recorded in the checkpoint, linked to the data module.
        seed: of everything random in training.
        compile: compile the blocks with ``torch.compile``.
    """

    head: FrameHead  # type: ignore[assignment]
    score: FrameActivity  # type: ignore[assignment]

    def __init__(
        self,
        encoder: EncoderConfig = EncoderConfig(),
        features: LogMels = LogMels(),
        num_classes: int = 11,
        class_names: list[str] | None = None,
        spec_augment: SpecAugment | None = None,
        decoding: EventDecoding = EventDecoding(),
        collars: Collars = Collars(),
        frozen_encoder: bool = False,
        frozen_drop_path: bool = False,
        optimizer: OptimizerConfig = OptimizerConfig(lr=5e-5, layer_decay=0.65, min_lr=1e-6),
        init_from: str | None = None,
        init_encoder: Literal["student", "teacher"] = "student",
        resampler: str = "torchaudio",
        seed: int = 0,
        compile: bool = False,
    ) -> None:
        super().__init__(
            encoder,
            features,
            num_classes,
            class_names=class_names,
            roll_and_gain=False,  # it would move the sounds
            spec_augment=spec_augment,
            frozen_encoder=frozen_encoder,
            frozen_drop_path=frozen_drop_path,
            optimizer=optimizer,
            init_from=init_from,
            init_encoder=init_encoder,
            resampler=resampler,
            seed=seed,
            compile=compile,
        )
        if self.front_end.grid(torch.zeros(1, features.patch_frames, features.num_mels)).time != 1:
            raise ValueError(
                f"features.patch_frames must be the frames of one of the encoder's tokens, got {features.patch_frames}"
            )
        self._frame_samples = features.patch_frames * hop_samples(features.sample_rate_hz)
        self.frame_seconds = self._frame_samples / features.sample_rate_hz  # of the predictions
        self.class_names = tuple(class_names or map(str, range(num_classes)))
        self.decoding, self.collars = decoding, collars
        self.head = FrameHead(encoder.dim, num_classes)
        self.score_name = "event_F1"
        self.score = FrameActivity()

    # Narrower than those of its base: images and texts have no events. That is what the ignored types are.

    def training_step(self, batch: Batch, batch_idx: int) -> Float[Tensor, ""]:  # type: ignore[override]
        if len(batch.waveforms) == 0:  # none of its files could be read
            return self.zero_loss()
        log_mels = self.log_mels(batch)
        if self.spec_augment:
            log_mels = self.spec_augment(log_mels, self.clip_keys(batch))
        logits = self(log_mels)
        loss = self.frame_loss(logits, self.targets(batch, logits.shape[1]))
        self.log_losses({"loss": loss}, len(log_mels))
        return loss

    def forward(  # type: ignore[override]
        self, log_mels: Float[Tensor, "batch frames mels"]
    ) -> Float[Tensor, "batch columns classes"]:
        return self.head(self.encoder(log_mels), self.front_end.grid(log_mels))

    def targets(self, batch: Batch, num_frames: int) -> FrameTargets:
        """What is heard in the frames of a batch.

        Raises:
            ValueError: the data does not tell.
        """
        if batch.events is None:
            raise ValueError(
                f"{batch.names[0]} has no onsets and offsets to learn from: detection takes a data module that knows its "
                "events, such as DCASE2016Task2DataModule or EventTableDataModule"
            )
        labels = frame_labels(batch.events, num_frames, self.num_classes, self.frame_seconds)
        return FrameTargets(labels, self._count_frames(batch, num_frames))

    def frame_loss(self, logits: Float[Tensor, "clips frames classes"], targets: FrameTargets) -> Float[Tensor, ""]:
        """Binary cross entropy, the mean over a clip's own frames and the classes, then over clips."""
        error = F.binary_cross_entropy_with_logits(logits.float(), targets.labels, reduction="none").mean(dim=2)
        inside = torch.arange(error.shape[1], device=error.device) < targets.num_frames.unsqueeze(1)
        return ((error * inside).sum(dim=1) / targets.num_frames).mean()

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage != "predict":
            mir_eval_transcription()

    def transfer_batch_to_device(self, batch: AnyBatch, device: torch.device, dataloader_idx: int) -> AnyBatch:
        if isinstance(batch, Batch):
            self._refuse_long(batch)
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def _refuse_long(self, batch: Batch) -> None:
        """What is heard behind the last frame would silently count as missed; part of one frame may be cut off."""
        assert self.features is not None, "the constructor takes no None"
        if self.features.num_frames is None:
            return
        rate_hz = self.features.sample_rate_hz
        most = self.features.num_frames * hop_samples(rate_hz)
        if max(batch.lengths, default=0) > most + self._frame_samples:
            row = int(batch.num_samples.argmax())
            raise ValueError(
                f"{batch.names[row]} lasts {batch.lengths[row] / rate_hz:.2f} s, of which the encoder reads "
                f"{most / rate_hz:g} s: set data.clip_seconds to that (data.max_clip_seconds where there is none) or raise "
                "model.features.num_frames"
            )

    def predict_clips(  # type: ignore[override]
        self, batch: Batch
    ) -> tuple[tuple[str, ...], Float[Tensor, "batch classes"]]:
        """Names, and every class's highest probability in any frame; for events see `take_events`."""
        probabilities = self(self.log_mels(batch)).float().sigmoid()
        self._note(batch, probabilities)
        return batch.names, probabilities.amax(dim=1)

    def take_events(self, loader: Any) -> dict[str, list[Event]]:
        """The events found in every whole recording since the last call; all ranks have to make it.

        Args:
            loader: what the clips came from.
        """
        places = places_of(loader.dataset)
        seen = self.score.compute()
        self.score.reset()
        active = join_clips(seen, places.file_of, places.start_seconds, self.frame_seconds, self.num_classes)
        return {
            places.files[file]: self.decoding.events(frames, self.frame_seconds, self.class_names)
            for file, frames in active.items()
        }

    def prediction_writer(self, folder: Path) -> EventWriter:
        return EventWriter(folder / "events.tsv")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave out what may be set anew behind training, as a checkpoint's settings have the last word in evaluation."""
        super().on_save_checkpoint(checkpoint)
        for name in ("decoding", "collars"):
            checkpoint["hyper_parameters"].pop(name, None)
        checkpoint["head_predicts"] = "frames"

    def _collect(self, batch: Batch) -> None:  # type: ignore[override]
        logits = self(self.log_mels(batch)).float()
        loss = self.frame_loss(logits, self.targets(batch, logits.shape[1]))
        self.mean_loss.update(loss * len(batch.clip_index), len(batch.clip_index))
        self._note(batch, logits.sigmoid())

    def _score(self, stage: str) -> Tensor | None:
        has_clips = self._log_mean_loss(stage)
        loader: Any = self.trainer.test_dataloaders if stage == "test" else self.trainer.val_dataloaders
        clips = loader.dataset
        assert isinstance(clips, EventDataset), "clips with events come from one"
        found = self.take_events(loader)
        truth = {name: clips.events(file) for file, name in enumerate(clips.places.files) if name in found}
        scores = event_scores(truth, found, self.class_names, self.collars)
        why_none = "no event is annotated or found" if has_clips else "no clip was read"
        for name, value in scores._asdict().items():
            known = None if math.isnan(value) else value
            self._log_score(f"{stage}/{name.replace('f1', 'F1')}", known, why_none, prog_bar=name == "event_f1")
        return None if math.isnan(scores.event_f1) else torch.tensor(scores.event_f1, dtype=torch.float32)

    def _note(self, batch: Batch, probabilities: Float[Tensor, "clips frames classes"]) -> None:
        num_frames = self._count_frames(batch, probabilities.shape[1])
        self.score.update(batch.clip_index, num_frames, self.decoding.active(probabilities))

    def _count_frames(self, batch: Batch, num_frames: int) -> Int[Tensor, "clips"]:
        """Frames that a clip begins, of ``num_frames``."""
        begun = (-(-batch.num_samples // self._frame_samples)).clamp(max=num_frames)
        return begun.to(batch.clip_index.device, non_blocking=True)
