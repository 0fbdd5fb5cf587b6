"""The encoder that everything is about: patches in, a clip token and contextual patch tokens out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sslam_lightning.layers import Block
from sslam_lightning.models.config import EncoderConfig
from sslam_lightning.models.spectrogram import SpectrogramPatches
from sslam_lightning.types import Encoded


class Encoder(nn.Module):
    """Patch embedding, clip token, norm and transformer blocks (EAT, arXiv 2401.03497, section 3.1).

    It works in two steps, so that embedded patches can be shared by many masked copies of a clip:
    :meth:`embed` gives all patches of a clip, :meth:`encode` runs the blocks on any choice of them.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.front_end = SpectrogramPatches(config)
        self.clip_token = nn.Parameter(torch.randn(1, 1, config.dim))
        post = config.norm_order == "post"
        self.input_norm = nn.LayerNorm(config.dim, eps=config.norm_eps) if post else nn.Identity()
        self.input_dropout = nn.Dropout(config.input_dropout)
        self.prenet = nn.ModuleList(_block(config, 0.0) for _ in range(config.prenet_depth))
        rise = (config.drop_path_end - config.drop_path_start) / max(1, config.depth - 1)
        rates = [config.drop_path_start + rise * block for block in range(config.depth)]
        self.blocks = nn.ModuleList(_block(config, rate) for rate in rates)
        self.output_norm = nn.Identity() if post else nn.LayerNorm(config.dim, eps=config.norm_eps)

    def embed(self, log_mels: Float[Tensor, "batch frames mels"]) -> Float[Tensor, "batch patches dim"]:
        """All patches of the clips as tokens with positions."""
        return self.front_end(log_mels)

    def encode(
        self,
        tokens: Float[Tensor, "rows tokens dim"],
        padding: Bool[Tensor, "rows tokens"] | None = None,
        keep_layers: int = 0,
        layer_source: Literal["feed_forward", "block"] = "feed_forward",
    ) -> Encoded:
        """Run the blocks on a choice of embedded patches.

        Args:
            tokens: embedded patches with positions, without the clip token, in any number and order.
            padding: True where a token is padding and must not be attended to.
            keep_layers: how many of the last blocks' results to return as ``layers``.
            layer_source: which result of a block that is, see :class:`sslam_lightning.objectives.LayerTargets`.
        """
        x, padding = self._enter(tokens, padding)
        layers = []
        for number, block in enumerate(self.blocks, start=1):
            before = x
            x, feed_forward = block(x, padding)
            if self.training and self.config.layer_drop > 0:
                # The block runs all the same: with several ranks every parameter has to take part in every step.
                dropped = torch.rand((), device=x.device) < self.config.layer_drop
                x = torch.where(dropped, before, x)
            if number > len(self.blocks) - keep_layers:
                layers.append((feed_forward if layer_source == "feed_forward" else x)[:, 1:])
        x = self.output_norm(x)
        return Encoded(x[:, 0], x[:, 1:], tuple(layers))

    def block_outputs(
        self, tokens: Float[Tensor, "rows tokens dim"], padding: Bool[Tensor, "rows tokens"] | None = None
    ) -> Iterator[Float[Tensor, "rows clip_and_tokens dim"]]:
        """The output of one block after the other, clip token first; the last comes out of the output norm.

        For inference: what is not asked for is not computed, and no block is ever dropped.
        """
        x, padding = self._enter(tokens, padding)
        for block in self.blocks[:-1]:
            x = block(x, padding).tokens
            yield x
        yield self.output_norm(self.blocks[-1](x, padding).tokens)

    def _enter(self, tokens: Tensor, padding: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """What the first of the main blocks sees: the clip token in front, normalised, through the prenet."""
        x = torch.cat([self.clip_token.expand(tokens.shape[0], -1, -1).to(tokens.dtype), tokens], dim=1)
        if padding is not None:
            padding = torch.cat([torch.zeros_like(padding[:, :1]), padding], dim=1)
        x = self.input_dropout(self.input_norm(x))
        for block in self.prenet:
            x = block(x, padding).tokens
        return x, padding

    def forward(self, log_mels: Float[Tensor, "batch frames mels"]) -> Encoded:
        """Encode whole clips."""
        return self.encode(self.embed(log_mels))


def _block(config: EncoderConfig, drop_path: float) -> Block:
    block = Block(
        config.dim,
        config.num_heads,
        config.mlp_ratio,
        config.norm_order,
        config.norm_eps,
        drop_path,
        config.attention_dropout,
        config.dropout,
        config.activation_dropout,
        config.post_mlp_dropout,
    )
    for module in block.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
    return block
