"""Multi-head self-attention (Vaswani et al., 2017, section 3.2), by the fastest exact kernel of the device."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn


class Attention(nn.Module):
    """Self-attention with a joint projection for queries, keys and values, as in ViT.

    Args:
        dim: width of the tokens, a multiple of ``num_heads``.
        num_heads: number of attention heads.
        attention_dropout: share of attention weights that training sets to zero.
        dropout: share of output values that training sets to zero.
        gated: multiply what was attended to by sigmoid(W x), channel by channel, before the output projection (BAT, 2026).

    Raises:
        ValueError: if ``dim`` is not a multiple of ``num_heads``.
    """

    def __init__(
        self, dim: int, num_heads: int, attention_dropout: float = 0.0, dropout: float = 0.0, gated: bool = False
    ) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"the width must be a multiple of the number of heads, got dim {dim} and {num_heads} heads")
        self.num_heads = num_heads
        self.attention_dropout = attention_dropout
        self.qkv = nn.Linear(dim, 3 * dim)
        self.gate = nn.Linear(dim, dim) if gated else None
        self.proj = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "rows tokens dim"],
        padding: Bool[Tensor, "rows tokens"] | None = None,
        bias: Float[Tensor, "#rows heads tokens tokens"] | None = None,
    ) -> Float[Tensor, "rows tokens dim"]:
        """Mix every token with all tokens of its row, except those where ``padding`` is True; ``bias`` adds to scores."""
        rows, tokens, dim = x.shape
        q, k, v = self.qkv(x).view(rows, tokens, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        allowed = None if padding is None else ~padding[:, None, None, :]
        if bias is not None:
            bias = bias.to(q.dtype)
            allowed = bias if allowed is None else bias.masked_fill(~allowed, float("-inf"))
        attend = _attend_in_steps if _steps_are_faster(q) else F.scaled_dot_product_attention
        mixed = attend(q, k, v, attn_mask=allowed, dropout_p=self.attention_dropout if self.training else 0.0)
        mixed = mixed.transpose(1, 2).reshape(rows, tokens, dim)
        if self.gate is not None:
            mixed = mixed * self.gate(x).sigmoid()
        return self.dropout(self.proj(mixed))


def _steps_are_faster(q: Tensor) -> bool:
    """PyTorch's fused kernel for CPUs is two to three times slower in bfloat16 than three plain steps."""
    return q.device.type == "cpu" and q.dtype == torch.bfloat16


def _attend_in_steps(
    q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0
) -> Float[Tensor, "rows heads tokens head_dim"]:
    """``scaled_dot_product_attention`` written out."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    if attn_mask is not None:
        is_bool = attn_mask.dtype == torch.bool
        scores = scores.masked_fill(~attn_mask, float("-inf")) if is_bool else scores + attn_mask
    weights = scores.softmax(dim=-1, dtype=scores.dtype)
    return F.dropout(weights, dropout_p) @ v
