"""Pre-training: stage 1 (EAT), stage 2 (SSLAM) and MAE-AST are configurations of one module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from sslam_lightning.augment import crop_to_shortest, roll
from sslam_lightning.checkpoints import read_weights
from sslam_lightning.features import LogMels
from sslam_lightning.layers import gather_tokens
from sslam_lightning.losses import (
    DINOLoss,
    ExtraLoss,
    InfoNCE,
    ReconstructionLoss,
    RegressionLoss,
    SourceRetentionLoss,
    TeacherTargets,
    UtteranceLoss,
)
from sslam_lightning.losses.source_retention import retained_targets
from sslam_lightning.masking import InverseBlockMask, MaskSampler
from sslam_lightning.masking.sampler import MASKS
from sslam_lightning.metrics import MeanLoss
from sslam_lightning.mixing import Mixer
from sslam_lightning.models import (
    ConvDecoderConfig,
    DecoderConfig,
    Encoder,
    EncoderConfig,
    FrontEnd,
    Teacher,
    TokenEmbeddings,
)
from sslam_lightning.models.front_ends.base import padding_behind
from sslam_lightning.models.initial_weights import init_bert
from sslam_lightning.models.teacher import TeacherParts
from sslam_lightning.rng import fold_in
from sslam_lightning.training.callbacks import CollapseConfig, EMAConfig
from sslam_lightning.training.load_pretrained import load_parts
from sslam_lightning.training.modules.pretrain_settings import LOSSES_TO_TARGETS, check_settings
from sslam_lightning.training.modules.self_supervised import SelfSupervisedModule
from sslam_lightning.training.run.optimizers import OptimizerConfig
from sslam_lightning.types import AnyBatch, Batch, BlockInput, Grid, Mask, Mixture, Predictions, PretrainOutput, Targets

_LOSSES = (*LOSSES_TO_TARGETS, "reconstruction", "info_nce")


class PretrainModule(SelfSupervisedModule):
    """Masked regression to a teacher that follows the student (data2vec 2.0, EAT), on clean clips or on mixtures (SSLAM).

    Without a teacher (``ema: null``) it is a masked autoencoder: reconstruction and InfoNCE (MAE-AST, arXiv 2203.16691).

    Args:
        encoder: size and switches of student and teacher.
        decoder: settings of the convolutional decoder, or of another, such as one of transformer blocks (BAT, MAE-AST).
        features: log-mels and their normalization; None for front-ends that read waveforms, images or text themselves.
        masking: which patches are hidden.
        masks_per_clip: masked copies of every clip in a step.
        targets: how the teacher's layers become targets.
        regression: decoder output against targets at hidden patches; None leaves it out.
        utterance: CLS token against the mean target; None leaves it out.
        reconstruction: decoder output against the patches' own values; None leaves it out.
        info_nce: decoder output against the other hidden patches of a clip; None leaves it out.
        dino: a cross entropy instead of the utterance loss; None leaves it out.
        mixing: partners and regions of stage 2's mixtures; None is stage 1.
        source_retention: mixtures against both of their sources; needs ``mixing``.
        extra_loss: a loss of your own beside these, see :class:`sslam_lightning.losses.ExtraLoss`; None for none.
        ema: how the teacher follows; None is no teacher, and only losses that need none.
        teacher_parts: what the teacher has of its own, see :class:`sslam_lightning.models.Teacher`.
        collapse: when to stop a run that collapses.
        optimizer: AdamW and its schedule.
        init_from: a checkpoint to start from, as far as it has student, teacher and decoder: a file or folder (ours,
            fairseq's or in the Hugging Face layout) or a Hub id such as ``ta012/SSLAM_pretrain``. Optimizer, schedule and
            the teacher's annealing start anew, as in the public stage 2.
        resampler: how the data was brought to the model's rate; recorded in the checkpoint, linked to the data module.
        seed: of everything random in training.
        compile: compile blocks and decoder with ``torch.compile``.
        crop_to_shortest: cut every waveform, at a random place, to the length of its batch's shortest, instead of padding
            that one; for waveforms, or log-mels of any length. Losses, in validation too, then depend on which clips meet.
        roll: shift every waveform circularly by a random part of its length (BAT).
    """

    student: Encoder

    def __init__(
        self,
        encoder: EncoderConfig = EncoderConfig(),
        decoder: DecoderConfig = ConvDecoderConfig(),
        features: LogMels | None = LogMels(),
        masking: MaskSampler = InverseBlockMask(),
        masks_per_clip: int = 16,
        targets: TeacherTargets = TeacherTargets(),
        regression: RegressionLoss | None = RegressionLoss(),
        utterance: UtteranceLoss | None = UtteranceLoss(),
        reconstruction: ReconstructionLoss | None = None,
        info_nce: InfoNCE | None = None,
        dino: DINOLoss | None = None,
        mixing: Mixer | None = None,
        source_retention: SourceRetentionLoss | None = None,
        extra_loss: ExtraLoss | None = None,
        ema: EMAConfig | None = EMAConfig(),
        teacher_parts: TeacherParts = "encoder",
        collapse: CollapseConfig = CollapseConfig(),
        optimizer: OptimizerConfig = OptimizerConfig(),
        init_from: str | None = None,
        resampler: str = "torchaudio",
        seed: int = 0,
        compile: bool = False,
        crop_to_shortest: bool = False,
        roll: bool = False,
    ) -> None:
        super().__init__(features, optimizer, seed, compile)
        self.save_hyperparameters()
        self.crop_to_shortest, self.roll = crop_to_shortest, roll
        self.masking, self.masks_per_clip, self.mixing = masking, masks_per_clip, mixing
        self.targets, self.regression, self.utterance = targets, regression, utterance
        self.dino = dino.build(encoder.dim) if dino else None
        self.reconstruction, self.info_nce, self.source_retention = reconstruction, info_nce, source_retention
        self.extra_loss = extra_loss
        self.ema, self.collapse, self.init_from = ema, collapse, init_from
        self.configured_losses = {name: loss for name in _LOSSES if (loss := getattr(self, name)) is not None}
        self.named_losses = nn.ModuleDict({name: MeanLoss() for name in self.configured_losses})

        self.student = Encoder(encoder)
        check_settings(self)
        self.decoder = decoder.build(self.student.dim)
        if ema and self.decoder.output_dim != self.student.dim:
            raise ValueError(
                f"decoder: predictions are {self.decoder.output_dim} wide, the teacher's targets {self.student.dim}: set "
                "decoder.output_projection to true"
            )
        if isinstance(self.front_end, TokenEmbeddings):
            init_bert(self.decoder)  # as published for text; other decoders keep torch's initial weights
        width, num_values = self.decoder.output_dim, self.front_end.num_values
        self.reconstruction_head = nn.Linear(width, num_values) if reconstruction else None
        self.contrast_head = nn.Linear(width, num_values) if info_nce else None
        self.teacher = Teacher(self.student, teacher_parts) if ema else None

    def training_step(self, batch: AnyBatch, batch_idx: int) -> Float[Tensor, ""]:
        """Mix, mask, let the teacher see everything and the student what is visible, compare."""
        if self.is_empty(batch):
            return self.empty_step()
        keys = self.clip_keys(batch)
        batch = self.augmented(batch, keys)
        clips, padding = self.read(batch)
        mixture = self.mix(clips, keys, padding, self.frames_behind(batch, clips))
        grid = self.front_end.grid(mixture.clips)
        mask = self.draw_masks(keys, grid, mixture.padding)
        embedded = self.student.embed(mixture.clips)
        targets = self.teacher_targets(embedded, mixture, grid) if self.teacher else None
        predictions = self.predict_masked(embedded, mixture, mask, grid)
        output = self.gather_output(predictions, targets, mask, mixture)
        return self.sum_and_log(self.losses(output), len(predictions.cls), predictions.patches, output.masked_targets)

    def augmented(self, batch: AnyBatch, keys: Int[Tensor, "batch"]) -> AnyBatch:
        """Waveforms, cropped and rolled as configured; other batches as they are."""
        if self.crop_to_shortest and isinstance(batch, Batch):
            batch = crop_to_shortest(batch, keys)
        if self.roll and isinstance(batch, Batch):
            batch = batch._replace(waveforms=roll(batch.waveforms, batch.num_samples, keys))
        return batch

    def is_empty(self, batch: AnyBatch) -> bool:
        num_clips = len(batch.clip_index)
        return num_clips == 0 or (num_clips == 1 and bool(self.mixing) and (bool(batch.broken) or not self.training))

    def can_learn_from(self, grid: Grid) -> bool:
        return super().can_learn_from(grid) and (self.mixing is None or self.mixing.fits(grid.time))

    def mix(
        self,
        clips: Shaped[Tensor, "batch *shape"],
        keys: Int[Tensor, "batch"],
        padding: Bool[Tensor, "batch patches"] | None = None,
        behind: Bool[Tensor, "batch frames"] | None = None,
    ) -> Mixture:
        """Stage 1: the clips. Stage 2: the clips and their mixtures; ``behind`` as :meth:`frames_behind` tells it."""
        if not self.mixing:
            return Mixture(clips, padding=padding)
        return self.mixing(clips, keys, self.student.config.patch_size, behind)

    def frames_behind(self, batch: AnyBatch, clips: Shaped[Tensor, "batch *shape"]) -> Bool[Tensor, "batch frames"] | None:
        """True for the frames of log-mels that lie behind a clip's end; None where none do, or where no mixture asks."""
        asks = self.mixing is not None and self.mixing.padding == "gives_way"
        if not (asks and self.features and isinstance(batch, Batch)):
            return None
        num_frames = self.features.count_frames(batch.num_samples)
        return padding_behind(num_frames, clips.shape[1], clips.device)

    def draw_masks(
        self, keys: Int[Tensor, "batch"], grid: Grid, padding: Bool[Tensor, "batch patches"] | None = None
    ) -> Mask:
        """``masks_per_clip`` masks a clip; a mixture gets those of its clean clip."""
        copies = torch.arange(self.masks_per_clip, device=keys.device)
        keys = fold_in(fold_in(keys, MASKS).unsqueeze(1), copies)
        padding = None if padding is None else padding.repeat_interleave(self.masks_per_clip, dim=0)
        mask = self.masking(keys, grid, padding)
        return Mask(*(torch.cat([part, part]) for part in mask)) if self.mixing else mask

    @torch.no_grad()
    def teacher_targets(self, embedded: Float[Tensor, "clips patches dim"], mixture: Mixture, grid: Grid) -> Targets:
        """What the teacher makes of every whole clip and, for the mixtures, of their sources.

        ``embedded`` is the student's embedding, for a teacher that has no front-end of its own. Padded tokens count in the
        normalization and in the mean that is the clip's target, as published, though nothing attends to them.
        """
        assert self.teacher is not None, "there is no teacher"
        embedded = self.teacher.embed(mixture.clips, embedded)
        entered = self.teacher.prepare_tokens(self.student, embedded, grid, mixture.padding)
        layers = self._teacher_layers(entered)
        self.log_token_std(layers[-1], mixture.padding)
        patches = self.targets(layers)
        alone = self.utterance and self.utterance.top_k_layers
        clip = (self.targets(layers, alone) if alone else patches).mean(dim=1)
        if not self.source_retention or mixture.partner is None:
            return Targets(patches, clip)
        batch, shared = len(mixture.partner), mixture.shared_patches(grid)
        foreign = self.targets(self._teacher_layers(self.teacher.keep(entered, mixture.partner, shared)))
        # Clean clips are normalized among themselves here, as published, and not together with their mixtures.
        own = patches[:batch] if self.targets.rows_are_independent else self.targets([layer[:batch] for layer in layers])
        return Targets(patches, clip, retained_targets(own, foreign, shared))

    def predict_masked(
        self, embedded: Float[Tensor, "clips patches dim"], mixture: Mixture, mask: Mask, grid: Grid
    ) -> Predictions:
        """What the student makes of the visible patches. Patches are embedded once a clip, not once a mask."""
        encoded = self.student.encode(*self.student.select_tokens(embedded, grid, mask.ids_keep, mixture.padding))
        patches = self.decoder(encoded.tokens, mask, grid)
        values = self.reconstruction_head(patches) if self.reconstruction_head else None
        contrast = self.contrast_head(patches) if self.contrast_head else None
        return Predictions(patches, encoded.cls, values, contrast)

    def gather_output(
        self, predictions: Predictions, targets: Targets | None, mask: Mask, mixture: Mixture
    ) -> PretrainOutput:
        """Predictions, and what they are compared with at the hidden patches."""
        masked_targets = None if targets is None else gather_tokens(targets.patches, mask.ids_masked)
        masked_values = None
        if self.reconstruction or self.info_nce:
            masked_values = gather_tokens(self.front_end.patchify(mixture.clips), mask.ids_masked)
        return PretrainOutput(predictions, mask, targets, masked_targets, masked_values)

    def losses(self, output: PretrainOutput) -> dict[str, Float[Tensor, ""]]:
        """Every configured loss by its name."""
        return {name: loss(output) for name, loss in self.configured_losses.items()}

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Take a step, after which DINO's center follows the targets."""
        super().optimizer_step(*args, **kwargs)
        if self.dino:
            self.dino.update_center()

    def _teacher_layers(self, seen: BlockInput) -> Sequence[Tensor]:
        assert self.teacher is not None, "there is no teacher"
        return self.teacher.layers(seen, self.targets.top_k_layers or self.student.depth, self.targets.output)

    @property
    def front_end(self) -> FrontEnd:
        return self.student.front_end

    def load_pretrained(self, path: str) -> None:
        """Take over student, teacher and decoder; a file without a teacher gives it the student's weights.

        Raises:
            ValueError: naming the first setting or parameter that does not fit.
        """
        weights = read_weights(path)
        weights.check_architecture(self.student.config)
        weights.check_decoder(self.decoder.config)
        parts = {
            "student": (self.student, weights.student),
            "decoder": (self.decoder, weights.decoder),
            "reconstruction": (self.reconstruction_head, weights.reconstruction),
            "contrast": (self.contrast_head, weights.contrast),
        }
        if self.teacher:
            own = self.teacher.encoder.state_dict()  # not all of an encoder has a teacher
            teacher = weights.part("teacher" if weights.teacher else "student")
            parts["teacher"] = (self.teacher.encoder, {name: weight for name, weight in teacher.items() if name in own})
        load_parts(weights, parts, self.features)

    def configure_model(self) -> None:
        if self.is_sharded and self.teacher and self.teacher.parts == "blocks":
            raise ValueError("FSDP does not take teacher_parts blocks: train with --trainer.strategy=ddp")
        if self.is_sharded and self.teacher is None:
            raise ValueError("FSDP is not tested without a teacher: train with --trainer.strategy=ddp")
        super().configure_model()

    def trainable_modules(self) -> Sequence[nn.Module]:
        parts = (self.student, self.decoder, self.reconstruction_head, self.contrast_head)
        return [part for part in parts if part is not None]

    def modules_to_shard(self) -> Sequence[nn.Module]:
        return [*self.trainable_modules(), *([self.teacher.encoder] if self.teacher else [])]

    def modules_to_compile(self) -> Sequence[nn.Module]:
        return [*self.student.blocks, *(self.teacher.encoder.blocks if self.teacher else []), self.decoder]
