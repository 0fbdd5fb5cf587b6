"""An encoder and its head as one module."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from sslam_lightning.models.encoder import Encoder
from sslam_lightning.models.heads import ClassificationHead


class Classifier(nn.Module):
    """Log-mels in, class logits out: what fine-tuning leaves behind, without anything of training."""

    def __init__(self, encoder: Encoder, head: ClassificationHead) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, log_mels: Float[Tensor, "batch frames mels"]) -> Float[Tensor, "batch classes"]:
        """Class logits of whole clips."""
        return self.head(self.encoder(log_mels))
