"""Fine-tuning and linear evaluation: the pre-trained encoder with a classification head."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Shaped
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torchmetrics import MaxMetric
from torchmetrics.classification import MulticlassAccuracy

from sslam_lightning.augment import Mixup, SpecAugment, noise_and_roll, roll_and_gain
from sslam_lightning.checkpoints import read_model
from sslam_lightning.checkpoints.formats.lightning import CONFIG_KEY
from sslam_lightning.features import LogMels
from sslam_lightning.metrics import MeanAveragePrecision, MeanLoss, ScoredMeanAveragePrecision
from sslam_lightning.models import (
    ClassificationHead,
    EncoderConfig,
    HuggingFaceClipEncoder,
    HuggingFaceConfig,
    TokenReader,
    TransformerDecoderConfig,
    build_encoder,
    classify,
)
from sslam_lightning.models.heads import Pooling
from sslam_lightning.training.load_pretrained import load_parts
from sslam_lightning.training.modules.base import AudioModule
from sslam_lightning.training.modules.finetune_settings import (
    Criterion,
    check_divisor,
    check_settings,
    with_drop_path_in_prenet,
)
from sslam_lightning.training.run.losses import share_of_update
from sslam_lightning.training.run.optimizers import OptimizerConfig
from sslam_lightning.types import AnyBatch, Batch


class Augmented(NamedTuple):
    """A batch as training sees it."""

    clips: Shaped[Tensor, "batch *shape"]  # log-mels, or what another front-end reads
    labels: Float[Tensor, "batch classes"]
    padding: Bool[Tensor, "batch tokens"] | None


class SummedLoss(NamedTuple):
    """The loss of a batch before it is divided."""

    total: Float[Tensor, ""]  # over clips and classes
    weight: Float[Tensor, ""]  # what divides it: clips or positives


class FinetuneModule(AudioModule):
    """Classification of clips (EAT, arXiv 2401.03497, section 4; SSLAM, ICLR 2025, section 4), images or texts.

    Args:
        encoder: size and switches; drop path belongs here.
        features: log-mels and their normalization; None for front-ends that read waveforms, images or text themselves.
        num_classes: number of classes; the command line takes it from the data module.
        multi_label: several classes may be present at once (binary cross entropy, mAP) or exactly one is (cross entropy,
            accuracy); from the data module likewise.
        class_names: recorded in the checkpoint; from the data module likewise.
        pooling: what the prediction is made from: the CLS token, the mean of all patches, or linear softmax over them.
        roll_and_gain: random circular shift and gain of the waveform, where there is one.
        noise_and_roll: random noise and shift of the log-mels, for Speech Commands.
        spec_augment: stripes of the log-mels set to zero; None leaves it out.
        mixup: blends log-mels or images, and labels; None leaves it out.
        criterion: ``cross_entropy``, or ``binary_cross_entropy`` summed over the classes. None takes the former where a
            clip is of exactly one class and the latter elsewhere; EAT trains with the latter on Speech Commands too.
        label_smoothing: share of every label's weight that training gives evenly to all classes.
        bce_reduction: what the summed binary cross entropy is divided by: the ``positives`` among the labels of the step,
            over all its batches and devices (public code), or its ``clips``. Not read where cross entropy follows from
            ``multi_label``, which is divided by the clips.
        frozen_encoder: train the head alone (linear evaluation); the decoder, where there is one, is frozen too.
        frozen_drop_path: leave drop path on in a frozen encoder, as in the public code's linear evaluation.
        optimizer: AdamW, its schedule and layer decay.
        init_from: a checkpoint to take the encoder from, and the head where it fits: a file or folder (ours, fairseq's or
            in the Hugging Face layout) or a Hub id such as ``ta012/SSLAM_pretrain``.
        init_encoder: the checkpoint's ``student`` or its ``teacher``.
        resampler: how the data was brought to the model's rate; recorded in the checkpoint, linked to the data module.
        seed: of everything random in training.
        compile: compile the blocks with ``torch.compile``.
        hugging_face: a model of Hugging Face transformers in the place of ``encoder``: a model type with its settings, or a
            folder (see :class:`~sslam_lightning.models.HuggingFaceConfig`). ``init_from`` then takes a checkpoint of
            `Data2Vec1Module`, of such a `FinetuneModule`, or a folder that ``save_pretrained`` has written; its dropout is
            among its settings, and ``pooling`` leaves its special tokens out.
        decoder: put the pre-trained decoder between encoder and head (MAE-AST); None is the encoder alone. The head then
            takes the decoder's tokens: set ``pooling`` to mean.
    """

    def __init__(
        self,
        encoder: EncoderConfig = EncoderConfig(),
        features: LogMels | None = LogMels(),
        num_classes: int = 527,
        multi_label: bool = True,
        class_names: list[str] | None = None,
        pooling: Pooling = "cls",
        roll_and_gain: bool = True,
        noise_and_roll: bool = False,
        spec_augment: SpecAugment | None = None,
        mixup: Mixup | None = None,
        criterion: Criterion | None = None,
        label_smoothing: float = 0.0,
        bce_reduction: Literal["positives", "clips"] = "clips",
        frozen_encoder: bool = False,
        frozen_drop_path: bool = False,
        optimizer: OptimizerConfig = OptimizerConfig(lr=5e-5, layer_decay=0.65, min_lr=1e-6),
        init_from: str | None = None,
        init_encoder: Literal["student", "teacher"] = "student",
        resampler: str = "torchaudio",
        seed: int = 0,
        compile: bool = False,
        decoder: TransformerDecoderConfig | None = None,
        hugging_face: HuggingFaceConfig | None = None,
    ) -> None:
        super().__init__(features, optimizer, seed, compile)
        self.save_hyperparameters()
        self.num_classes, self.multi_label = num_classes, multi_label
        self.criterion: Criterion = criterion or ("binary_cross_entropy" if multi_label else "cross_entropy")
        self.roll_and_gain, self.noise_and_roll, self.spec_augment = roll_and_gain, noise_and_roll, spec_augment
        check_divisor(bce_reduction, criterion)
        self.mixup, self.label_smoothing = mixup, label_smoothing
        self.bce_reduction = bce_reduction if self.criterion == "binary_cross_entropy" else "clips"
        self.frozen_encoder, self.frozen_drop_path = frozen_encoder, frozen_drop_path
        self.init_from, self.init_encoder = init_from, init_encoder
        self.encoder = build_encoder(hugging_face or with_drop_path_in_prenet(encoder))
        self.decoder = decoder.build(self.encoder.dim) if decoder else None
        if self.decoder is not None:
            self.decoder.mask_token.requires_grad_(False)  # nothing is hidden, and DDP waits for all that learns
        if frozen_encoder:
            nn.ModuleList([self.encoder, *([self.decoder] if self.decoder else [])]).requires_grad_(False)
        self.head = ClassificationHead(self.decoder.dim if self.decoder else self.encoder.dim, num_classes, pooling)
        check_settings(self)
        self.score_name = "mAP" if multi_label else "accuracy"
        self.score = (
            ScoredMeanAveragePrecision(num_classes) if multi_label else MulticlassAccuracy(num_classes, average="micro")
        )
        self.mean_loss, self.best_score = MeanLoss(), MaxMetric()
        self.best_score.persistent(True)  # a resumed run has not forgotten it
        self.train()  # the trainer takes the modes as they are, so a frozen encoder has to be in evaluation mode now

    @property
    def front_end(self) -> TokenReader:
        return self.encoder.front_end

    def training_step(self, batch: AnyBatch, batch_idx: int) -> Float[Tensor, ""]:
        if len(batch.clip_index) == 0:  # none of its files could be read
            loss = SummedLoss(self.zero_loss(), torch.ones((), dtype=torch.float32, device=self.device))
        else:
            clips, labels, padding = self.augmented(batch)
            loss = self.summed_loss(self(clips, padding), labels)
            self.log_sums({"loss": loss.total}, loss.weight)
        if self.bce_reduction == "clips":
            return loss.total / loss.weight
        return share_of_update(loss.total, self.step_weights, self.parameters(), self._trainer)

    def augmented(self, batch: AnyBatch) -> Augmented:
        """Clips and labels as training sees them."""
        keys = self.clip_keys(batch)
        if self.roll_and_gain and isinstance(batch, Batch):
            batch = batch._replace(waveforms=roll_and_gain(batch.waveforms, batch.num_samples, keys))
        (clips, padding), labels = self.read(batch), batch.labels
        if self.noise_and_roll:
            clips = noise_and_roll(clips, keys)
        if self.mixup:
            clips, labels, _ = self.mixup(clips, labels, keys)
        if self.spec_augment:  # behind mixup, as in the public code: stripes stay blank
            clips = self.spec_augment(clips, keys)
        return Augmented(clips, labels, padding)

    def forward(
        self, clips: Shaped[Tensor, "batch *shape"], padding: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "batch classes"]:
        """Class logits of whole clips."""
        return classify(self.encoder(clips, padding), self.head, self.decoder, padding)

    def loss(self, logits: Float[Tensor, "batch classes"], labels: Float[Tensor, "batch classes"]) -> Float[Tensor, ""]:
        """The loss of a batch that is all of an update."""
        total, weight = self.summed_loss(logits, labels)
        return total / weight.clamp(min=1)

    def summed_loss(self, logits: Float[Tensor, "batch classes"], labels: Float[Tensor, "batch classes"]) -> SummedLoss:
        """The criterion summed over classes and clips; labels are smoothed in training alone, as in the public code."""
        smoothing = self.label_smoothing if self.training else 0.0
        targets = labels * (1 - smoothing) + smoothing / self.num_classes
        if self.criterion == "cross_entropy":
            total = -(targets * logits.float().log_softmax(dim=1)).sum()
        else:
            total = F.binary_cross_entropy_with_logits(logits.float(), targets, reduction="sum")
        return SummedLoss(total, labels.sum() if self.bce_reduction == "positives" else labels.new_full((), len(labels)))

    def probabilities(self, batch: AnyBatch) -> tuple[Float[Tensor, "batch classes"], SummedLoss]:
        """Class probabilities of a batch as it is, and the loss."""
        logits = self(*self.read(batch))
        return self._activated(logits), self.summed_loss(logits, batch.labels)

    def _activated(self, logits: Float[Tensor, "batch classes"]) -> Float[Tensor, "batch classes"]:
        return logits.float().sigmoid() if self.multi_label else logits.float().softmax(dim=1)

    def validation_step(self, batch: AnyBatch, batch_idx: int) -> None:
        if len(batch.clip_index):  # else none of its files could be read
            self._collect(batch)

    test_step = validation_step

    def predict_clips(self, batch: AnyBatch) -> tuple[tuple[str, ...], Float[Tensor, "batch classes"]]:
        return batch.names, self._activated(self(*self.read(batch)))

    def on_validation_epoch_end(self) -> None:
        """Score the epoch; the best is logged beside the last, and neither is hidden."""
        score = self._score("val")
        if score is not None and self.trainer.state.fn == "fit" and not self.trainer.sanity_checking:
            self.best_score.update(score)
            self.log(f"val/best_{self.score_name}", self.best_score.compute())

    def on_test_epoch_end(self) -> None:
        self._score("test")

    def _collect(self, batch: AnyBatch) -> None:
        probabilities, loss = self.probabilities(batch)
        # Not self.log with sync_dist: over ranks Lightning rounds the mean number of clips down to a whole number.
        self.mean_loss.update(*loss)
        self.score.update(probabilities, batch.labels if self.multi_label else batch.labels.argmax(dim=1))

    def _score(self, stage: str) -> Tensor | None:
        """Log loss and score; the score is None where there was nothing to score."""
        has_clips = self._log_mean_loss(stage)
        score = self.score.compute() if has_clips else None
        self.score.reset()
        if isinstance(score, MeanAveragePrecision):
            self.log(f"{stage}/mAP_num_classes", float(score.num_scored_classes))
            score = score.value if score.num_scored_classes else None
        why_none = "no class has a positive clip" if has_clips else "no clip was read"
        self._log_score(f"{stage}/{self.score_name}", score, why_none)
        return score

    def _log_mean_loss(self, stage: str) -> bool:
        loss = self.mean_loss.compute()
        self.mean_loss.reset()
        if loss is not None:
            self.log(f"{stage}/loss", loss)
        return loss is not None

    def _log_score(self, name: str, score: Tensor | float | None, why_none: str, prog_bar: bool = True) -> None:
        """Log a score, or warn that there is none."""
        if score is not None:
            self.log(name, score, prog_bar=prog_bar)
            return
        if not self.trainer.sanity_checking:
            rank_zero_warn(f"{name} is left out: {why_none}")
        if any(getattr(callback, "monitor", None) == name for callback in self.trainer.callbacks):  # type: ignore[attr-defined]
            self.log(name, math.nan, logger=False)  # Lightning ends a run whose monitored score is missing

    def train(self, mode: bool = True) -> FinetuneModule:
        """A frozen encoder stays in evaluation mode, unless the public code's variant is asked for."""
        super().train(mode)
        for part in (self.encoder, self.decoder) if self.frozen_encoder and not self.frozen_drop_path else ():
            if part is not None:
                part.eval()
        return self

    def setup(self, stage: str) -> None:
        super().setup(stage)
        expected = getattr(getattr(self.trainer, "datamodule", None), "num_classes", self.num_classes)
        if expected != self.num_classes:
            raise ValueError(f"the model has {self.num_classes} classes, the data {expected}")

    def load_pretrained(self, path: str) -> None:
        """Take over an encoder, and a head of the same shape if the file has one.

        Raises:
            ValueError: naming the first parameter that does not fit, or that the file has no teacher.
        """
        weights = read_model(path, "init_from")
        weights.check_architecture(self.encoder.config)
        if self.decoder is not None:
            if isinstance(weights.encoder, HuggingFaceConfig):
                raise ValueError(f"{path} holds no decoder: set model.decoder to null")
            weights.check_decoder(self.decoder.config)
        theirs = len(weights.head["linear.bias"]) if weights.head else 0
        fits = theirs == self.num_classes
        head = "head" if fits else f"head for {self.num_classes} classes"
        head += f" (the file's is for {theirs} classes)" if theirs and not fits else ""
        parts = {
            self.init_encoder: (self.encoder, weights.part(self.init_encoder)),
            "decoder": (self.decoder, weights.decoder),
            head: (self.head, weights.head if fits else None),
        }
        load_parts(weights, parts, self.features)

    def trainable_modules(self) -> Sequence[nn.Module]:
        """Encoder, decoder and head; parameters of a frozen encoder do not learn."""
        # Layer decay goes by names: those of the decoder's blocks are not those of the encoder's.
        between = [nn.ModuleDict({"decoder": self.decoder})] if self.decoder is not None else []
        return [self.encoder.in_layers(), *between, self.head]

    def modules_to_compile(self) -> Sequence[nn.Module]:
        return [*self.encoder.all_blocks(), *(self.decoder.blocks if self.decoder is not None else ())]

    def configure_optimizers(self) -> Any:
        return self.build_optimizers(self.encoder.depth)

    def configure_model(self) -> None:
        if self.is_sharded and isinstance(self.encoder, HuggingFaceClipEncoder):
            raise ValueError("models of transformers do not train with FSDP here: train with --trainer.strategy=ddp")
        super().configure_model()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        if isinstance(self.encoder, HuggingFaceClipEncoder):
            checkpoint[CONFIG_KEY] = self.encoder.whole_config()
