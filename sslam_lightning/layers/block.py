"""Transformer block in the three orders of normalization that the family knows (data2vec 2.0, ``AltBlock``)."""

from __future__ import annotations

from typing import Literal, NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor, nn

from sslam_lightning.layers.attention import Attention
from sslam_lightning.layers.drop_path import DropPath

NormPlacement = Literal["post", "pre", "pre_data2vec2"]


class BlockOutput(NamedTuple):
    """A block's output, and its feed-forward output before the residual: data2vec's regression target."""

    tokens: Float[Tensor, "rows tokens dim"]
    feed_forward: Float[Tensor, "rows tokens dim"]


class FeedForward(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, dim: int, hidden_dim: int, activation_dropout: float = 0.0, dropout: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.activation = nn.GELU()
        self.activation_dropout = nn.Dropout(activation_dropout)
        self.fc2 = nn.Linear(hidden_dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "rows tokens dim"]) -> Float[Tensor, "rows tokens dim"]:
        """Transform every token by itself."""
        return self.dropout(self.fc2(self.activation_dropout(self.activation(self.fc1(x)))))


class Block(nn.Module):
    """Self-attention and feed-forward, each with a residual.

    Args:
        dim: width of the tokens.
        num_heads: attention heads.
        mlp_ratio: hidden width of the feed-forward layer in units of ``dim``.
        norm: ``post`` (EAT, SSLAM): normalize after each residual. ``pre``: normalize before each branch.
            ``pre_data2vec2``: the pre-norm order as data2vec 2.0 released it, whose second residual adds the feed-forward
            output to itself instead of its input; released pre-norm weights need it.
        norm_eps: epsilon of the layer norms.
        drop_path: probability with which a row skips a branch.
        attention_dropout: on the attention weights.
        dropout: on the attention's and the feed-forward layer's output.
        activation_dropout: inside the feed-forward layer.
        post_mlp_dropout: on the feed-forward branch, behind the point where targets are taken.
        gated: whether the attention's output is gated, see :class:`sslam_lightning.layers.Attention`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        norm: NormPlacement = "post",
        norm_eps: float = 1e-6,
        drop_path: float = 0.0,
        attention_dropout: float = 0.0,
        dropout: float = 0.0,
        activation_dropout: float = 0.0,
        post_mlp_dropout: float = 0.0,
        gated: bool = False,
    ) -> None:
        super().__init__()
        self.norm = norm
        self.norm1 = nn.LayerNorm(dim, eps=norm_eps)
        self.attn = Attention(dim, num_heads, attention_dropout, dropout, gated)
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = FeedForward(dim, round(dim * mlp_ratio), activation_dropout, dropout)
        self.post_mlp_dropout = nn.Dropout(post_mlp_dropout)
        self.drop_path = DropPath(drop_path)

    def forward(
        self,
        x: Float[Tensor, "rows tokens dim"],
        padding: Bool[Tensor, "rows tokens"] | None = None,
        bias: Float[Tensor, "#rows heads tokens tokens"] | None = None,
    ) -> BlockOutput:
        """Run the block; ``padding`` is True where a token is not to be attended to, ``bias`` adds to attention scores."""
        if self.norm == "post":
            x = self.norm1(x + self.drop_path(self.attn(x, padding, bias)))
            feed_forward = self.mlp(x)
            return BlockOutput(self.norm2(x + self._branch(feed_forward)), feed_forward)
        x = x + self.drop_path(self.attn(self.norm1(x), padding, bias))
        feed_forward = self.mlp(self.norm2(x))
        residual = x if self.norm == "pre" else feed_forward
        return BlockOutput(residual + self._branch(feed_forward), feed_forward)

    def _branch(self, feed_forward: Tensor) -> Tensor:
        return self.drop_path(self.post_mlp_dropout(feed_forward))
