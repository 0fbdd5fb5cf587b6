"""The decoder of stage 1 and 2: a few grouped convolutions over the field of patches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sslam_lightning.layers import gather_tokens, scatter_tokens
from sslam_lightning.models.config import check_ranges
from sslam_lightning.models.decoders.base import Decoder, DecoderConfig
from sslam_lightning.types import Grid, Mask
from sslam_lightning.whole_numbers import check_whole_numbers


@dataclass
class ConvDecoderConfig(DecoderConfig):
    """Settings of :class:`ConvDecoder`.

    Args:
        dim: channels of the convolutions; None is the encoder's width.
        depth: number of convolutions.
        kernel_size: side of their square kernels.
        groups: channel groups of the convolutions.
        noise_std: standard deviation of the noise that stands in for hidden patches.
        dimensions: 2 for fields of patches, 1 for tokens in one line.
        residual: add a layer's input to its output where the widths agree.
        projection_depth: linear layers that lead back to the encoder's width, with a GELU between two.
        input_dropout: on the visible patches.
    """

    dim: int | None = None
    depth: int = 6
    kernel_size: int = 3
    groups: int = 16
    noise_std: float = 0.01
    dimensions: Literal[1, 2] = 2
    residual: bool = True
    projection_depth: Literal[1, 2] = 1
    input_dropout: float = 0.0

    def __post_init__(self) -> None:
        check_whole_numbers(self, "decoder")
        check_ranges(self, "decoder", positive=("dim", "depth", "kernel_size", "groups"), shares=("input_dropout",))
        if self.dim is not None and self.dim % self.groups:
            raise ValueError(f"the decoder's dim must be a multiple of its groups, got {self.dim} and {self.groups}")
        if self.noise_std < 0:
            raise ValueError(f"decoder: noise_std must not be negative, got {self.noise_std}")

    def build(self, dim: int) -> ConvDecoder:
        return ConvDecoder(self, dim)


class ConvDecoder(Decoder):
    """Predicts the hidden patches from the visible ones, as in EAT and SSLAM (data2vec 2.0, arXiv 2212.07525, section 3.2).

    Each layer is a grouped convolution, a layer norm without weights and a GELU, with a residual where the widths
    agree; one or two linear layers lead back to the encoder's width.
    """

    config: ConvDecoderConfig

    def __init__(self, config: ConvDecoderConfig, encoder_dim: int) -> None:
        super().__init__()
        if encoder_dim % config.groups:
            raise ValueError(
                f"the encoder's dim must be a multiple of the decoder's groups, got {encoder_dim} and {config.groups}"
            )
        dim = config.dim or encoder_dim
        self.config, self.output_dim = replace(config, dim=dim), encoder_dim
        widths = [encoder_dim] + [dim] * config.depth
        conv = nn.Conv2d if config.dimensions == 2 else nn.Conv1d
        self.convs = nn.ModuleList(
            conv(width, dim, config.kernel_size, padding=config.kernel_size // 2, groups=config.groups)
            for width in widths[:-1]
        )
        wider = 2 * dim  # data2vec's text decoder
        self.proj = (
            nn.Linear(dim, encoder_dim)
            if config.projection_depth == 1
            else nn.Sequential(nn.Linear(dim, wider), nn.GELU(), nn.Linear(wider, encoder_dim))
        )

    def forward(
        self, visible: Float[Tensor, "rows visible dim"], mask: Mask, grid: Grid
    ) -> Float[Tensor, "rows hidden dim"]:
        if self.config.dimensions == 1 and grid.freq != 1:
            raise ValueError(f"decoder.dimensions 1 is for tokens in one line, the clips are {grid.freq} tokens high")
        rows, _, dim = visible.shape
        visible = F.dropout(visible, self.config.input_dropout, self.training)
        noise = torch.randn(rows, grid.num_patches, dim, device=visible.device, dtype=visible.dtype)
        x = scatter_tokens(noise * self.config.noise_std, visible, mask.ids_keep)
        for conv in self.convs[:-1]:
            x = self._refine(self._convolve(conv, x, grid), x)
        # Behind the last convolution tokens no longer meet, and only hidden ones are asked for.
        last = gather_tokens(self._convolve(self.convs[-1], x, grid), mask.ids_masked)
        return self.proj(self._refine(last, gather_tokens(x, mask.ids_masked)))

    def _convolve(self, conv: nn.Module, x: Tensor, grid: Grid) -> Tensor:
        """Tokens in, tokens out. Tokens side by side are an image in channels-last layout already: nothing is copied."""
        rows = x.shape[0]
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))  # as an image it would be cast several times slower
        if self.config.dimensions == 1:
            return conv(x.transpose(1, 2))[..., : grid.time].transpose(1, 2)
        image = x.view(rows, grid.time, grid.freq, -1).permute(0, 3, 1, 2)
        image = conv(image)[:, :, : grid.time, : grid.freq]  # an even kernel's padding gives one row and column too many
        return image.permute(0, 2, 3, 1).reshape(rows, grid.num_patches, -1)

    def _refine(self, convolved: Tensor, before: Tensor) -> Tensor:
        refined = F.gelu(F.layer_norm(convolved, convolved.shape[-1:]))
        if not self.config.residual or before.shape[-1] != refined.shape[-1]:
            return refined
        return refined.to(before.dtype) + before  # an addition of two dtypes is slower than a cast and one of one
