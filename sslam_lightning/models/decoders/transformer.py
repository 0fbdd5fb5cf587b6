"""Decoder of transformer blocks over all patches, a mask token standing at the hidden ones (MAE, MAE-AST, BAT)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sslam_lightning.layers import PositionTable, gather_tokens, mel_major_positions, scatter_tokens, sinusoidal_positions
from sslam_lightning.layers.block import NormPlacement
from sslam_lightning.models.config import EncoderConfig, WeightInit, check_ranges
from sslam_lightning.models.decoders.base import Decoder, DecoderConfig
from sslam_lightning.models.encoder import build_block
from sslam_lightning.models.initial_weights import init_xavier
from sslam_lightning.types import Grid, Mask
from sslam_lightning.whole_numbers import check_whole_numbers

_OF_BLOCKS = (
    *("num_heads", "mlp_ratio", "norm", "norm_eps"),
    *("dropout", "attention_dropout", "gated_attention", "weight_init"),
)


@dataclass
class TransformerDecoderConfig(DecoderConfig):
    """Settings of :class:`TransformerDecoder`.

    Args:
        dim: width of its blocks; None is the encoder's.
        depth: number of blocks.
        num_heads: attention heads of a block.
        mlp_ratio: hidden width of the feed-forward layers in units of ``dim``.
        positions: ``sinusoidal`` ones are computed (MAE-AST); ``learned`` ones are trained and start as the table of BAT's
            encoder (see its ``max_time_patches``).
        max_tokens: how many places ``learned`` positions have.
        mel_patches: how many of them belong to one column of patches, to begin with.
        norm: as in the encoder; ``post`` normalizes the input, ``pre`` the output.
        input_norm: whether ``post`` does normalize the input; not in BAT.
        norm_eps: epsilon of the layer norms.
        dropout: on the input, and on the outputs of attention and feed-forward layers.
        attention_dropout: on attention weights.
        gated_attention: as in the encoder.
        projection_bias: of the linear layers from the encoder's width and back to it; none in BAT.
        weight_init: as in the encoder, of all linear layers; ``normal`` leaves the two at the ends as torch draws them.
        output_projection: a linear layer back to the encoder's width, which targets of a teacher have (BAT). Without it
            predictions have the decoder's own width, and the mask token starts as in MAE-AST's public code.
    """

    dim: int | None = None
    depth: int = 2
    num_heads: int = 12
    mlp_ratio: float = 4.0
    positions: Literal["sinusoidal", "learned"] = "sinusoidal"
    max_tokens: int = 512
    mel_patches: int = 8
    norm: NormPlacement = "post"
    input_norm: bool = True
    norm_eps: float = 1e-5
    dropout: float = 0.0
    attention_dropout: float = 0.0
    gated_attention: bool = False
    projection_bias: bool = True
    weight_init: WeightInit = "normal"
    output_projection: bool = False

    def __post_init__(self) -> None:
        check_whole_numbers(self, "decoder")
        sizes = ("dim", "depth", "num_heads", "max_tokens", "mel_patches")
        check_ranges(self, "decoder", positive=sizes, shares=("dropout", "attention_dropout"))
        if self.norm_eps <= 0:
            raise ValueError(f"decoder: norm_eps must be positive, got {self.norm_eps}")
        if self.dim is not None and self.mlp_ratio * self.dim < 1:
            raise ValueError(f"decoder: mlp_ratio must be at least 1 / dim, got {self.mlp_ratio} and dim {self.dim}")

    def build(self, dim: int) -> TransformerDecoder:
        return TransformerDecoder(self, dim)


class TransformerDecoder(Decoder):
    """Predicts the hidden patches from the visible ones; every block sees all of them.

    Args:
        config: its settings.
        encoder_dim: width of what it is given; a linear layer leads to its own width where that is another.
    """

    config: TransformerDecoderConfig

    def __init__(self, config: TransformerDecoderConfig, encoder_dim: int) -> None:
        super().__init__()
        self.dim = dim = config.dim or encoder_dim
        projects, bias = config.output_projection, config.projection_bias
        self.config, self.output_dim = replace(config, dim=dim), encoder_dim if projects else dim
        self.input_proj = nn.Identity() if encoder_dim == dim else nn.Linear(encoder_dim, dim, bias=bias)
        self.mask_token = nn.Parameter(torch.zeros(dim))
        if projects:
            nn.init.normal_(self.mask_token, std=0.02)
        else:
            nn.init.uniform_(self.mask_token)
        self.positions = None
        if config.positions == "learned":
            self.positions = nn.Parameter(torch.empty(config.max_tokens, dim))
            if not self.positions.is_meta:  # where only shapes count
                columns = -(-config.max_tokens // config.mel_patches)
                table = mel_major_positions(columns, config.mel_patches, dim)
                self.positions.data.copy_(table[: config.max_tokens])
        self._sinusoidal = PositionTable(partial(sinusoidal_positions, dim=dim))
        post, norm = config.norm == "post", nn.LayerNorm(dim, eps=config.norm_eps)
        self.input_norm = norm if post and config.input_norm else nn.Identity()
        self.input_dropout = nn.Dropout(config.dropout)
        block = EncoderConfig(dim=dim, **{name: getattr(config, name) for name in _OF_BLOCKS})
        self.blocks = nn.ModuleList(build_block(block, 0.0) for _ in range(config.depth))
        self.output_norm = nn.Identity() if post else norm
        self.output_proj = nn.Linear(dim, encoder_dim, bias=bias) if projects else nn.Identity()
        if config.weight_init == "xavier":
            init_xavier(self.input_proj)
            init_xavier(self.output_proj)

    def forward(
        self, visible: Float[Tensor, "rows visible dim"], mask: Mask, grid: Grid
    ) -> Float[Tensor, "rows hidden width"]:
        visible = self.input_proj(visible)
        unknown = self.mask_token.to(visible.dtype).expand(visible.shape[0], grid.num_patches, -1)
        everything = scatter_tokens(unknown, visible, mask.ids_keep)
        return self.output_proj(gather_tokens(self.refine(everything), mask.ids_masked))

    def refine(
        self, tokens: Float[Tensor, "rows tokens width"], padding: Bool[Tensor, "rows tokens"] | None = None
    ) -> Float[Tensor, "rows tokens width"]:
        """Positions and blocks, on all tokens of a clip at the decoder's own width; for fine-tuning with the decoder.

        Nothing attends to tokens where ``padding`` is True.

        Raises:
            ValueError: if there are more tokens than learned positions.
        """
        x = self.input_dropout(self.input_norm(tokens + self._positions_for(tokens)))
        for block in self.blocks:
            x = block(x, padding).tokens
        return self.output_norm(x)

    def _positions_for(self, tokens: Tensor) -> Tensor:
        if self.positions is None:
            return self._sinusoidal(tokens)
        num_tokens = tokens.shape[1]
        if num_tokens > len(self.positions):
            raise ValueError(f"decoder.max_tokens is {len(self.positions)}, the clips have {num_tokens} tokens")
        return self.positions[:num_tokens]
