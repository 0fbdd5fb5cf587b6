"""The encoder that everything is about: patches in, a CLS token and contextual patch tokens out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from sslam_lightning.layers import Alibi, Block, ConvPositions, gather_tokens, scatter_tokens
from sslam_lightning.models.clip_encoder import ClipEncoder
from sslam_lightning.models.config import EncoderConfig
from sslam_lightning.models.front_ends.base import FrontEnd
from sslam_lightning.models.front_ends.spectrogram import SpectrogramPatches
from sslam_lightning.models.initial_weights import init_bert, init_xavier
from sslam_lightning.types import BlockInput, EncoderOutput, Grid


class Encoder(ClipEncoder):
    """Patch embedding, CLS token, norm and transformer blocks (EAT, arXiv 2401.03497, section 3.1).

    It works in steps, so that many masked copies of a clip share its embedded patches: :meth:`embed` gives all patches of
    a clip, :meth:`choose` takes some of them out, :meth:`encode` runs the blocks on those.
    """

    front_end: FrontEnd

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.dim, self.depth = config.dim, config.depth
        self.front_end = config.front_end.build(config.dim) if config.front_end else SpectrogramPatches(config)
        positions = config.conv_positions
        self.conv_positions = (
            ConvPositions(config.dim, positions.depth, positions.width, positions.groups) if positions else None
        )
        self.alibi = Alibi(config.num_heads, config.alibi == "learned") if config.alibi else None
        cls_token_std = 0.0 if config.zero_cls_token else 1.0 if config.weight_init == "normal" else 0.02
        self.cls_token = nn.Parameter(torch.randn(1, 1, config.dim) * cls_token_std) if config.cls_token else None
        post = config.norm == "post"
        normalized = post and config.input_norm
        self.input_norm = nn.LayerNorm(config.dim, eps=config.norm_eps) if normalized else nn.Identity()
        self.input_dropout = nn.Dropout(config.input_dropout)
        prenet_rates = rising(config.prenet_drop_path_start, config.prenet_drop_path_end, config.prenet_depth)
        self.prenet = nn.ModuleList(build_block(config, rate) for rate in prenet_rates)
        rates = rising(config.drop_path_start, config.drop_path_end, config.depth)
        self.blocks = nn.ModuleList(build_block(config, rate) for rate in rates)
        self.output_norm = nn.Identity() if post else nn.LayerNorm(config.dim, eps=config.norm_eps)

    def embed(self, clips: Shaped[Tensor, "batch *shape"]) -> Float[Tensor, "batch patches dim"]:
        """All patches of the clips as tokens with positions."""
        return self.front_end(clips)

    def select_tokens(
        self,
        embedded: Float[Tensor, "clips patches dim"],
        grid: Grid,
        index: Int[Tensor, "rows kept"] | None = None,
        padding: Bool[Tensor, "clips patches"] | None = None,
        hide_padding: bool = False,
    ) -> BlockInput:
        """The tokens at ``index`` as the blocks are to see them, without anything of the others; all where it is None.

        Rows come clip by clip, as in :func:`sslam_lightning.layers.gather_tokens`. With ``hide_padding`` positions by
        convolution see nothing of the padding; published models are trained without.

        Raises:
            ValueError: if a choice is made of more than one piece, see ``max_time_patches``.
        """
        most = self.config.max_time_patches
        if index is not None and most is not None and grid.time > most:
            raise ValueError(
                f"masks and mixtures are made of at most encoder.max_time_patches {most} patches in time, got clips of "
                f"{grid.time}: lower model.features.num_frames"
            )
        tokens = embedded if index is None else gather_tokens(embedded, index)
        if self.conv_positions is not None:
            tokens = tokens + self._relative(tokens, grid, index, padding if hide_padding else None)
        if padding is not None and index is not None:
            padding = padding.repeat_interleave(len(index) // len(padding), dim=0).gather(1, index)
        bias = self.alibi(grid, index) if self.alibi is not None else None
        return BlockInput(tokens, padding, bias)

    def encode(
        self,
        tokens: Float[Tensor, "rows tokens dim"],
        padding: Bool[Tensor, "rows tokens"] | None = None,
        bias: Float[Tensor, "biases heads tokens tokens"] | None = None,
        keep_layers: int = 0,
        layer_output: Literal["ffn", "block"] = "ffn",
    ) -> EncoderOutput:
        """Run the blocks on a choice of embedded patches.

        Args:
            tokens: embedded patches with positions, without the CLS token, in any number and order.
            padding: True where a token is padding and must not be attended to.
            bias: adds to attention scores between the tokens.
            keep_layers: how many of the last blocks' results to return as ``layers``.
            layer_output: which result of a block that is, see :class:`sslam_lightning.losses.TeacherTargets`.
        """
        return self.forward_blocks(*self.prepare_tokens(tokens, padding, bias), keep_layers, layer_output)

    def prepare_tokens(
        self,
        tokens: Float[Tensor, "rows tokens dim"],
        padding: Bool[Tensor, "rows tokens"] | None = None,
        bias: Float[Tensor, "biases heads tokens tokens"] | None = None,
    ) -> BlockInput:
        """What the first of the main blocks sees: the CLS token in front, normalized, through the prenet."""
        x = tokens
        if self.cls_token is not None:
            x = torch.cat([self.cls_token.expand(tokens.shape[0], -1, -1).to(tokens.dtype), tokens], dim=1)
            if padding is not None:
                padding = torch.cat([torch.zeros_like(padding[:, :1]), padding], dim=1)
            if bias is not None:
                bias = F.pad(bias, (1, 0, 1, 0))  # the CLS token is near to everything
        x = self.input_dropout(self.input_norm(x))
        for block in self.prenet:
            x = block(x, padding, bias).tokens
        return BlockInput(x, padding, bias)

    def forward_blocks(
        self,
        x: Float[Tensor, "rows all dim"],
        padding: Bool[Tensor, "rows all"] | None = None,
        bias: Float[Tensor, "biases heads all all"] | None = None,
        keep_layers: int = 0,
        layer_output: Literal["ffn", "block"] = "ffn",
    ) -> EncoderOutput:
        """Run the main blocks on what :meth:`enter` returns; arguments as in :meth:`encode`."""
        first = int(self.config.cls_token)  # of the tokens behind the CLS token
        layers = []
        for number, block in enumerate(self.blocks, start=1):
            before = x
            x, feed_forward = block(x, padding, bias)
            if self.training and self.config.layer_drop > 0:
                # The block runs all the same: with several ranks every parameter has to take part in every step.
                dropped = torch.rand((), dtype=torch.float32, device=x.device) < self.config.layer_drop
                x = torch.where(dropped, before, x)
            if number > len(self.blocks) - keep_layers:
                layers.append((feed_forward if layer_output == "ffn" else x)[:, first:])
        x = self.output_norm(x)
        return EncoderOutput(x[:, 0] if first else mean_of_tokens(x, padding), x[:, first:], tuple(layers))

    def _block_outputs(
        self,
        tokens: Float[Tensor, "rows tokens dim"],
        padding: Bool[Tensor, "rows tokens"] | None = None,
        bias: Float[Tensor, "biases heads tokens tokens"] | None = None,
    ) -> Iterator[Float[Tensor, "rows clip_and_tokens dim"]]:
        """The output of one block after the other, the last behind the output norm; no block is ever dropped."""
        x, padding, bias = self.prepare_tokens(tokens, padding, bias)
        for block in self.blocks[:-1]:
            x = block(x, padding, bias).tokens
            yield x
        yield self.output_norm(self.blocks[-1](x, padding, bias).tokens)

    def layer_outputs(
        self,
        clips: Shaped[Tensor, "batch *shape"],
        padding: Bool[Tensor, "batch patches"] | None = None,
        hide_padding: bool = True,
    ) -> Iterator[Float[Tensor, "batch clip_and_tokens dim"]]:
        grid = self.front_end.grid(clips)
        pieces = self._cut(self.select_tokens(self.embed(clips), grid, None, padding, hide_padding), grid)
        layers = zip(*(self._block_outputs(*piece) for piece in pieces), strict=True)
        return (_join(layer, pieces) for layer in layers)

    def all_blocks(self) -> Sequence[nn.Module]:
        return list(self.blocks)

    def forward(
        self, clips: Shaped[Tensor, "batch *shape"], padding: Bool[Tensor, "batch patches"] | None = None
    ) -> EncoderOutput:
        grid = self.front_end.grid(clips)
        pieces = self._cut(self.select_tokens(self.embed(clips), grid, padding=padding), grid)
        encoded = [self.encode(*piece) for piece in pieces]
        if len(encoded) == 1:
            return encoded[0]
        joined = _join([torch.cat([each.cls.unsqueeze(1), each.tokens], dim=1) for each in encoded], pieces)
        return EncoderOutput(joined[:, 0], joined[:, 1:], ())

    def _cut(self, seen: BlockInput, grid: Grid) -> list[BlockInput]:
        """Pieces of ``max_time_patches`` columns that are encoded by themselves (BAT's public code); else one piece."""
        most = self.config.max_time_patches
        if most is None or grid.time <= most:
            return [seen]
        tokens = seen.tokens.split(most * grid.freq, dim=1)
        padding = [None] * len(tokens) if seen.padding is None else seen.padding.split(most * grid.freq, dim=1)
        return [BlockInput(*piece) for piece in zip(tokens, padding, strict=True)]

    def _relative(self, tokens: Tensor, grid: Grid, index: Tensor | None, padding: Tensor | None) -> Tensor:
        """Positions by convolution; tokens that were not chosen are zeros to it."""
        assert self.conv_positions is not None
        if index is None:
            return self.conv_positions(tokens, padding)
        nothing = torch.zeros(len(index), grid.num_patches, tokens.shape[-1], device=tokens.device, dtype=tokens.dtype)
        return gather_tokens(self.conv_positions(scatter_tokens(nothing, tokens, index)), index)


def mean_of_tokens(
    tokens: Float[Tensor, "rows tokens dim"], padding: Bool[Tensor, "rows tokens"] | None
) -> Float[Tensor, "rows dim"]:
    """Over the tokens of a row that are no padding."""
    if padding is None:
        return tokens.mean(dim=1)
    kept = (~padding).unsqueeze(-1)
    return (tokens * kept).sum(dim=1) / kept.sum(dim=1)


def rising(start: float, end: float, count: int) -> list[float]:
    """``count`` rates in a straight line from ``start`` to ``end``."""
    return [start + (end - start) * place / max(1, count - 1) for place in range(count)]


def build_block(config: EncoderConfig, drop_path: float) -> Block:
    """A block of this encoder with its initial weights."""
    sizes = config.dim, config.num_heads, config.mlp_ratio, config.norm, config.norm_eps
    dropouts = config.attention_dropout, config.dropout, config.activation_dropout, config.post_mlp_dropout
    block = Block(*sizes, drop_path, *dropouts, config.gated_attention)
    (init_xavier if config.weight_init == "xavier" else init_bert)(block)
    return block


def _join(
    outputs: Sequence[Float[Tensor, "rows _ dim"]], pieces: Sequence[BlockInput]
) -> Float[Tensor, "rows clip_and_all_tokens dim"]:
    """The mean of the CLS tokens of all pieces that are not padding throughout, then the tokens of all pieces."""
    if len(outputs) == 1:
        return outputs[0]
    clip, tokens = torch.stack([x[:, :1] for x in outputs]), [x[:, 1:] for x in outputs]
    held = [torch.ones_like(clip[0, :, 0, 0]) if p.padding is None else 1.0 - p.padding.all(dim=1).float() for p in pieces]
    share = torch.stack(held)[..., None, None]
    return torch.cat([((clip * share).sum(dim=0) / share.sum(dim=0)).to(clip.dtype), *tokens], dim=1)
