"""Probes on all tokens: convex gated probing and a mixture of layers (BAT, arXiv 2602.16305), and attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sslam_lightning.evaluation.frozen import FrozenBatch
from sslam_lightning.evaluation.protocols.base import Task
from sslam_lightning.evaluation.protocols.probe import Probe
from sslam_lightning.models import ClipEncoder
from sslam_lightning.models.encoder import mean_of_tokens

Summary = Literal["cls", "mean"]


def summary_of(encoder: ClipEncoder) -> Summary:
    """What stands for a clip: the CLS token or, for encoders without one, the patches' mean."""
    return "mean" if encoder.cls_token is None else "cls"


@dataclass
class ConvexGatedProbe(Probe):
    """Weights of the layers, prototypes and a linear layer learn; see `ConvexGate`.

    Between smallest and largest similarity stands that of the CLS token or, for models without one, the patches' mean.

    Args:
        num_prototypes: 10 000 as published; memory and time of an update are proportional to it.
        learning_rates, epochs, batch_size, weight_decay: see `Probe`.
    """

    level = "layers"
    learning_rates: Sequence[float] = (3e-3, 1e-2, 3e-2)
    epochs: int = 30
    batch_size: int = 32
    num_prototypes: int = 10_000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_prototypes < 1:
            raise ValueError(f"convex_gated: num_prototypes must be at least 1, got {self.num_prototypes}")

    def build(self, task: Task, **choice: Any) -> nn.Module:
        encoder = task.model.encoder
        return ConvexGate(encoder.dim, encoder.depth, self.num_prototypes, task.num_classes, summary_of(encoder))


class ConvexGate(nn.Module):
    """Softmax-weighted sum of all layers' L2-normalized tokens; similarity of each to K prototypes of length 1; of every
    prototype the smallest and the largest over the patches and a summary between them; a linear layer on those 3 K numbers.

    Args:
        dim: width of the tokens.
        depth: number of layers.
        num_prototypes: K.
        num_classes: number of logits.
        summary: the similarity of the ``cls_token``, or the ``mean`` of those of the patches.
    """

    no_weight_decay = ("prototypes",)

    def __init__(self, dim: int, depth: int, num_prototypes: int, num_classes: int, summary: Summary = "cls") -> None:
        super().__init__()
        self.summary = summary
        self.layer_logits = nn.Parameter(torch.zeros(depth))
        self.prototypes = nn.Parameter(torch.randn(num_prototypes, dim) * 0.02)
        self.linear = nn.Linear(3 * num_prototypes, num_classes)

    def forward(self, batch: FrozenBatch) -> Float[Tensor, "clips classes"]:
        return self.linear(self.gathered(batch.features, batch.padding))

    def frame_logits(
        self, layers: Float[Tensor, "clips layers clip_and_tokens dim"], num_mel: int
    ) -> Float[Tensor, "clips time classes"]:
        """Class logits of every column of ``num_mel`` patches, each by itself, with the mean between its extremes."""
        columns = self.similarities(layers[:, :, 1:]).unflatten(1, (-1, num_mel))
        low, high = columns.min(dim=2).values, columns.max(dim=2).values
        return self.linear(side_by_side(low, columns.mean(dim=2), high))

    def gathered(
        self,
        layers: Float[Tensor, "clips layers clip_and_tokens dim"],
        padding: Bool[Tensor, "clips tokens"] | None = None,
    ) -> Float[Tensor, "clips numbers"]:
        """Of prototype after prototype the minimum over the patches, the summary, the maximum; padding does not count."""
        similarities = self.similarities(layers)
        clip, patches = similarities[:, 0], similarities[:, 1:]
        low = high = patches
        if padding is not None:
            low = patches.masked_fill(padding.unsqueeze(2), torch.inf)
            high = patches.masked_fill(padding.unsqueeze(2), -torch.inf)
        middle = clip if self.summary == "cls" else mean_of_tokens(patches, padding)
        # Not amin and amax: their gradients are shared out among equals, at twice the time.
        return side_by_side(low.min(dim=1).values, middle, high.max(dim=1).values)

    def similarities(self, layers: Float[Tensor, "clips layers tokens dim"]) -> Float[Tensor, "clips tokens prototypes"]:
        """Of every token, mixed over the layers and not made of length 1 again, to every prototype."""
        mixed = torch.einsum("l,cltd->ctd", self.layer_logits.softmax(dim=0), F.normalize(layers, dim=3))
        return mixed @ F.normalize(self.prototypes, dim=1).T


def side_by_side(*values: Float[Tensor, "*rows prototypes"]) -> Float[Tensor, "*rows numbers"]:
    """All values of the first prototype, then those of the second, in the order of the public linear layer."""
    return torch.stack(values, dim=-1).flatten(-2)


@dataclass
class LayerMixProbe(Probe):
    """Weights of the layers, a layer norm and a linear layer learn (``linear_cgp`` of BAT's code); see `LayerMix`.

    Args:
        learning_rates, epochs, batch_size, weight_decay: see `Probe`.
    """

    level = "layers"
    learning_rates: Sequence[float] = (3e-4, 1e-3, 3e-3)
    epochs: int = 30
    batch_size: int = 32

    def build(self, task: Task, **choice: Any) -> nn.Module:
        encoder = task.model.encoder
        return LayerMix(encoder.dim, encoder.depth, task.num_classes, summary_of(encoder))


class LayerMix(nn.Module):
    """Softmax-weighted sum of all layers' CLS tokens or means of patches, a layer norm, and a linear layer.

    Args:
        dim: width of the tokens.
        depth: number of layers.
        num_classes: number of logits.
        summary: what of every layer is mixed.
        norm: whether there is a layer norm, as in the published configurations.
    """

    def __init__(self, dim: int, depth: int, num_classes: int, summary: Summary = "cls", norm: bool = True) -> None:
        super().__init__()
        self.summary = summary
        self.layer_logits = nn.Parameter(torch.zeros(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6) if norm else nn.Identity()
        self.linear = nn.Linear(dim, num_classes)

    def forward(self, batch: FrozenBatch) -> Float[Tensor, "clips classes"]:
        mixed = torch.einsum("l,cltd->ctd", self.layer_logits.softmax(dim=0), batch.features)
        clip = mixed[:, 0] if self.summary == "cls" else mean_of_tokens(mixed[:, 1:], batch.padding)
        return self.linear(self.norm(clip))


@dataclass
class AttentiveProbe(Probe):
    """Cross-attention with one learned query per head, then a linear layer.

    Attentive probing as of CAE (Chen et al., 2022, arXiv 2202.03026, section 4.1) and V-JEPA (Bardes et al., 2024, arXiv
    2404.08471), without their feed-forward layer.

    Args:
        num_heads: queries, each with its own keys and values; the encoder's width is a multiple of it.
        learning_rates, epochs, batch_size, weight_decay: see `Probe`.
    """

    level = "layers"
    learning_rates: Sequence[float] = (3e-4, 1e-3, 3e-3, 1e-2)
    epochs: int = 30
    batch_size: int = 32
    num_heads: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_heads < 1:
            raise ValueError(f"attentive: num_heads must be at least 1, got {self.num_heads}")

    def build(self, task: Task, **choice: Any) -> nn.Module:
        return AttentivePooling(task.model.encoder.dim, task.num_classes, self.num_heads)


class AttentivePooling(nn.Module):
    """Layer norm, keys and values of every token, one query a head, and a linear layer on what they gather.

    Raises:
        ValueError: if the heads do not divide the width.
    """

    def __init__(self, dim: int, num_classes: int, num_heads: int = 1) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"attentive: the encoder's width {dim} is no multiple of num_heads {num_heads}")
        self.num_heads, self.scale = num_heads, (dim // num_heads) ** -0.5
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.query = nn.Parameter(torch.randn(num_heads, dim // num_heads) * 0.02)
        self.keys, self.values = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.linear = nn.Linear(dim, num_classes)

    def forward(self, batch: FrozenBatch) -> Float[Tensor, "clips classes"]:
        """Class logits, from the tokens of the last layer without the CLS token."""
        tokens = self.norm(batch.features[:, -1, 1:])
        weights = self.attention(tokens, batch.padding)
        values = self.values(tokens).unflatten(2, (self.num_heads, -1))
        return self.linear(torch.einsum("cht,cthd->chd", weights, values).flatten(1))

    def attention(
        self, tokens: Float[Tensor, "clips tokens dim"], padding: Bool[Tensor, "clips tokens"] | None = None
    ) -> Float[Tensor, "clips heads tokens"]:
        """How much each query takes of every token; none of padding, 1 in total."""
        keys = self.keys(tokens).unflatten(2, (self.num_heads, -1))
        scores = torch.einsum("hd,cthd->cht", self.query, keys) * self.scale
        if padding is not None:
            scores = scores.masked_fill(padding.unsqueeze(1), -torch.inf)
        return scores.softmax(dim=2)
