"""What the modules that pre-train have in common: named losses, signs of collapse, validation by the training step."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from jaxtyping import Bool, Float
from torch import Tensor

from sslam_lightning.metrics import token_deviation, variance_indicator
from sslam_lightning.training.losses import Losses
from sslam_lightning.training.module import AudioModule
from sslam_lightning.types import AnyBatch


class SelfSupervisedModule(AudioModule):
    """Base of the modules that learn without labels. A subclass sets ``named_losses`` and writes the training step."""

    named_losses: Losses

    @abstractmethod
    def training_step(self, batch: AnyBatch, batch_idx: int) -> Float[Tensor, ""]:
        """The total loss of a batch; every loss goes to `Losses.sum_and_log`."""

    def validation_step(self, batch: AnyBatch, batch_idx: int) -> Float[Tensor, ""] | None:
        """The same losses on held-out clips, with the same masks at every epoch."""
        return None if self.is_unusable(batch) else self.training_step(batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        """Every loss as its mean over all clips of all ranks."""
        self.named_losses.log_means(self)

    @property
    def loss_names(self) -> Sequence[str]:
        """The total, and every configured objective."""
        return self.named_losses.log_names

    def log_variances(self, guesses: Float[Tensor, "*rows dim"], wanted: Float[Tensor, "*rows dim"]) -> None:
        """Log the two signs of collapse, when it is time; all ranks have to call this, one without clips with no rows."""
        if not self.training or not self.is_time_to_log():
            return
        for name, rows in (("prediction_variance", guesses), ("target_variance", wanted)):
            if len(rows):
                self.log(name, variance_indicator(rows.flatten(0, -2)))
            elif self.world_size > 1:
                variance_indicator(rows)

    def log_token_deviation(
        self, tokens: Float[Tensor, "clips tokens dim"], padding: Bool[Tensor, "clips tokens"] | None = None
    ) -> None:
        """Log the sign of collapse that normalised targets hide, when it is time: of this rank's clips, in the teacher."""
        if self.training and self.is_time_to_log():
            self.log("token_deviation", token_deviation(tokens, padding))
