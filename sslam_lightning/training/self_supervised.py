"""What the modules that pre-train have in common: losses with names, and validation by the training step."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

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
