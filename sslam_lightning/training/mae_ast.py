"""Pre-training by masked autoencoding: MAE-AST (Baade et al., 2022, arXiv 2203.16691). There is no teacher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from sslam_lightning.augment import crop_to_shortest
from sslam_lightning.checkpoints import read_weights
from sslam_lightning.features import MAE_AST_LOG_MELS, LogMels
from sslam_lightning.layers import keep_visible
from sslam_lightning.masking import MaskSampler, UniformMask
from sslam_lightning.masking.sampler import MASKS
from sslam_lightning.models import (
    Encoder,
    EncoderConfig,
    SpectrogramTokens,
    SpectrogramTokensConfig,
    TransformerDecoder,
    TransformerDecoderConfig,
)
from sslam_lightning.objectives import InfoNCE, Reconstruction
from sslam_lightning.random_streams import fold_in
from sslam_lightning.training.losses import Losses
from sslam_lightning.training.optimizers import OptimizerConfig
from sslam_lightning.training.self_supervised import SelfSupervisedModule
from sslam_lightning.training.start import take_over
from sslam_lightning.types import AnyBatch, Batch


class MAEASTModule(SelfSupervisedModule):
    """Hides most tokens of a spectrogram; the decoder restores their values and tells them from each other.

    Args:
        encoder: the student; its front-end is :class:`sslam_lightning.models.SpectrogramTokens`.
        decoder: size of the decoder.
        features: log-mels as they are, which the front-end normalises over the batch.
        masking: which tokens are hidden.
        reconstruction: guesses against the tokens' own values, by default 10 times the mean squared error.
        info_nce: guesses against the other hidden tokens of a clip; None leaves it out.
        optimizer: AdamW and its schedule.
        init_from: a checkpoint to start from (ours or the public one): encoder, decoder and heads.
        crop_to_shortest: cut every waveform, at a random place, to the length of its batch's shortest, so that nothing is
            padded: a padded frame would count in the batch norm.
        resampler: how the data was brought to the model's rate; recorded in the checkpoint, linked to the data module.
        seed: of everything random in training.
        compile: compile the blocks with ``torch.compile``.
    """

    student: Encoder

    def __init__(
        self,
        encoder: EncoderConfig = EncoderConfig(front_end=SpectrogramTokensConfig(), clip_token=False, norm_eps=1e-5),
        decoder: TransformerDecoderConfig = TransformerDecoderConfig(),
        features: LogMels = MAE_AST_LOG_MELS,
        masking: MaskSampler = UniformMask(),
        reconstruction: Reconstruction = Reconstruction(weight=10.0, scale="mean", normalise=False),
        info_nce: InfoNCE | None = InfoNCE(),
        optimizer: OptimizerConfig = OptimizerConfig(),
        init_from: str | None = None,
        crop_to_shortest: bool = True,
        resampler: str = "torchaudio",
        seed: int = 0,
        compile: bool = False,
    ) -> None:
        super().__init__(features, optimizer, seed, compile)
        self.save_hyperparameters()
        self.masking, self.reconstruction, self.info_nce, self.init_from = masking, reconstruction, info_nce, init_from
        self.crop_to_shortest = crop_to_shortest
        self.student = Encoder(encoder)
        if not isinstance(self.student.front_end, SpectrogramTokens):
            raise ValueError("MAE-AST needs encoder.front_end SpectrogramTokensConfig: it restores what that cuts out")
        self.decoder = TransformerDecoder(decoder, encoder.dim)
        nn.init.uniform_(self.decoder.mask_token)  # as in the public code
        num_values = self.student.front_end.num_values
        self.reconstruction_head = nn.Linear(decoder.dim, num_values)
        self.contrast_head = nn.Linear(decoder.dim, num_values) if info_nce else None
        self.named_losses = Losses(["reconstruction", *(["info_nce"] if info_nce else [])])

    def training_step(self, batch: AnyBatch, batch_idx: int) -> Float[Tensor, ""]:
        """Hide tokens, encode the others, restore the hidden ones."""
        if self.is_unusable(batch):
            return self.no_loss()
        keys = self.clip_keys(batch)
        if self.crop_to_shortest and isinstance(batch, Batch):
            batch = crop_to_shortest(batch, keys)
        front_end, log_mels = self.front_end, self.read(batch).clips
        patches = front_end.patchify(log_mels)
        grid = front_end.grid(log_mels)
        mask = self.masking(fold_in(keys, MASKS), grid)
        visible = keep_visible(front_end.embed_patches(patches), mask.visible_index)
        restored = self.decoder(self.student.encode(visible).tokens, mask, grid)
        wanted = keep_visible(patches, mask.hidden_index)
        losses = {"reconstruction": self.reconstruction(self.reconstruction_head(restored), wanted)}
        if self.info_nce and self.contrast_head:
            losses["info_nce"] = self.info_nce(self.contrast_head(restored), wanted)
        return self.named_losses.sum_and_log(self, losses, rows=len(patches))

    @property
    def front_end(self) -> SpectrogramTokens:
        """The student's."""
        front_end = self.student.front_end
        assert isinstance(front_end, SpectrogramTokens)
        return front_end

    def start_from(self, path: str) -> None:
        """Take over encoder, decoder and heads, as far as the file has them.

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
        take_over(weights, parts, self.features)

    def configure_model(self) -> None:
        """Refuse to share out weights: patches are cut and embedded in two steps, of which FSDP sees none.

        Raises:
            ValueError: if the trainer's strategy asks for it.
        """
        if self.is_sharded:
            raise ValueError("MAE-AST does not train with FSDP: train with --trainer.strategy=ddp")

    def learning_parts(self) -> Sequence[nn.Module]:
        """Encoder, decoder and heads."""
        parts = (self.student, self.decoder, self.reconstruction_head, self.contrast_head)
        return [part for part in parts if part is not None]

    def compiled_parts(self) -> Sequence[nn.Module]:
        """All blocks."""
        return [*self.student.blocks, *self.decoder.blocks]

    def configure_optimizers(self) -> Any:
        """AdamW over everything."""
        return self.build_optimizers(len(self.student.blocks))
