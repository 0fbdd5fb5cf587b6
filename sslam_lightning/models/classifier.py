"""An encoder and its head as one module."""

from __future__ import annotations

from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from sslam_lightning.models.clip_encoder import ClipEncoder
from sslam_lightning.models.decoders.transformer import TransformerDecoder
from sslam_lightning.models.encoder import mean_of_tokens
from sslam_lightning.models.heads import ClassificationHead
from sslam_lightning.types import Encoded


class Classifier(nn.Module):
    """Clips in, class logits out: what fine-tuning leaves behind, without anything of training.

    Args:
        encoder: reads log-mels, or what its front-end reads.
        head: from encoded clips to logits.
        decoder: stands between the two where a model was fine-tuned with its decoder (MAE-AST); None is the rule.
    """

    def __init__(self, encoder: ClipEncoder, head: ClassificationHead, decoder: TransformerDecoder | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.decoder = decoder

    def forward(
        self, clips: Shaped[Tensor, "batch *shape"], padding: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "batch classes"]:
        """Class logits of whole clips; tokens where ``padding`` is True do not count."""
        return classify(self.encoder(clips, padding), self.head, self.decoder, padding)


def classify(
    encoded: Encoded,
    head: ClassificationHead,
    decoder: TransformerDecoder | None = None,
    padding: Bool[Tensor, "rows tokens"] | None = None,
) -> Float[Tensor, "rows classes"]:
    """Class logits of encoded clips, of all their tokens through the decoder first where there is one."""
    if decoder is not None:
        tokens = decoder.refine(decoder.input_proj(encoded.tokens), padding)
        encoded = Encoded(mean_of_tokens(tokens, padding), tokens, ())
    return head(encoded, padding)
