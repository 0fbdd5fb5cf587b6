"""From an encoded clip to class logits, of the clip or of every frame."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from sslam_lightning.models.clip_encoder import ClipEncoder
from sslam_lightning.models.decoders.transformer import TransformerDecoder
from sslam_lightning.models.encoder import mean_of_tokens
from sslam_lightning.types import EncoderOutput, Grid

Pooling = Literal["cls", "mean", "linear_softmax"]

_LOG_GUARD = math.log(math.expm1(1e-6))


class _Head(nn.Module):
    """Layer norm and a linear layer: alike in all heads, so that one may start from another's weights."""

    def __init__(self, dim: int, num_classes: int, norm_eps: float = 1e-6) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"a {type(self).__name__} needs at least one class, got {num_classes}")
        if norm_eps <= 0:
            raise ValueError(f"a {type(self).__name__}'s norm_eps must be positive, got {norm_eps}")
        self.norm = nn.LayerNorm(dim, eps=norm_eps)
        self.linear = nn.Linear(dim, num_classes)
        nn.init.trunc_normal_(self.linear.weight, std=0.02)
        nn.init.zeros_(self.linear.bias)


class FrameHead(_Head):
    """Logits of every frame, from the mean over its mel bands: one prediction per column of patches.

    Args:
        dim: width of the encoder.
        num_classes: number of logits of a frame.
    """

    def forward(self, encoded: EncoderOutput, grid: Grid) -> Float[Tensor, "rows frames classes"]:
        """Class logits of every frame; ``grid`` is the field of patches that the tokens are."""
        columns = encoded.tokens.unflatten(1, (grid.time, grid.freq))
        return self.linear(self.norm(columns.mean(dim=2)))


class ClassificationHead(_Head):
    """Pool the tokens of a clip, then layer norm and a linear layer.

    Args:
        dim: width of the encoder.
        num_classes: number of logits.
        pooling: ``cls`` (EAT), ``mean`` over patches, or ``linear_softmax`` over them (see :func:`linear_softmax`).
        norm_eps: epsilon of the layer norm.
    """

    def __init__(self, dim: int, num_classes: int, pooling: Pooling = "cls", norm_eps: float = 1e-6) -> None:
        super().__init__(dim, num_classes, norm_eps)
        self.pooling = pooling

    def forward(
        self, encoded: EncoderOutput, padding: Bool[Tensor, "rows tokens"] | None = None
    ) -> Float[Tensor, "rows classes"]:
        """Class logits of every row; tokens where ``padding`` is True do not count."""
        return self.linear(self.norm(self.pool(encoded, padding)))

    def pool(self, encoded: EncoderOutput, padding: Bool[Tensor, "rows tokens"] | None = None) -> Float[Tensor, "rows dim"]:
        """One feature vector for each row."""
        if self.pooling == "cls":
            return encoded.cls
        if self.pooling == "mean":
            return mean_of_tokens(encoded.tokens, padding)
        return linear_softmax(encoded.tokens, padding)


def linear_softmax(
    tokens: Float[Tensor, "rows tokens dim"], padding: Bool[Tensor, "rows tokens"] | None = None
) -> Float[Tensor, "rows dim"]:
    """Linear softmax pooling of every channel (Wang et al., 2019, arXiv 1810.09050), of features as in EAT's code.

    With p = sigmoid(token), the result is the logit of q = sum(p^2) / sum(p), so that tokens with large values count more.
    As published, the sum of p carries a factor of exp(1e-6), which keeps q below 1: the logit saturates at about 13.8.
    It is computed from 1 - q = sum(p (1 - p)) / sum(p), since 1 minus a rounded q would lose the large values.
    """
    log_p, log_not_p = F.logsigmoid(tokens.float()), F.logsigmoid(-tokens.float())
    if padding is not None:
        log_p = log_p.masked_fill(padding.unsqueeze(-1), -torch.inf)  # a probability of 0 adds to no sum
    rest = torch.logaddexp(torch.logsumexp(log_p + log_not_p, dim=1), torch.logsumexp(log_p, dim=1) + _LOG_GUARD)
    return (torch.logsumexp(2 * log_p, dim=1) - rest).to(tokens.dtype)


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
        return classify(self.encoder(clips, padding), self.head, self.decoder, padding)


def classify(
    encoded: EncoderOutput,
    head: ClassificationHead,
    decoder: TransformerDecoder | None = None,
    padding: Bool[Tensor, "rows tokens"] | None = None,
) -> Float[Tensor, "rows classes"]:
    """Class logits of encoded clips, of all their tokens through the decoder first where there is one."""
    if decoder is not None:
        tokens = decoder.refine(decoder.input_proj(encoded.tokens), padding)
        encoded = EncoderOutput(mean_of_tokens(tokens, padding), tokens, ())
    return head(encoded, padding)
