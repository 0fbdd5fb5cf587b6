"""Front-end for images: square patches of all channels (ViT, Dosovitskiy et al., 2021; data2vec 2.0)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sslam_lightning.layers import sincos_positions
from sslam_lightning.layers.positions import check_width_of_field
from sslam_lightning.models.front_ends.base import EncoderInput, FrontEnd, FrontEndConfig
from sslam_lightning.models.front_ends.inputs import ImageInput
from sslam_lightning.types import Grid, ImageBatch
from sslam_lightning.whole_numbers import check_whole_numbers


@dataclass(frozen=True)
class ImageConfig(FrontEndConfig):
    """Settings of :class:`ImagePatches`.

    Args:
        patch_size: side of the square patches in pixels.
        in_channels: colors of a pixel.
    """

    patch_size: int = 16
    in_channels: int = 3

    def __post_init__(self) -> None:
        check_whole_numbers(self, "front_end")
        if self.patch_size < 1 or self.in_channels < 1:
            raise ValueError(f"patch_size and in_channels must be at least 1, got {self.patch_size} and {self.in_channels}")

    def build(self, dim: int) -> ImagePatches:
        return ImagePatches(self, dim)


class ImagePatches(FrontEnd):
    """Embeds each patch with one linear map and adds fixed sine-cosine positions; rows stand for time, columns for mel."""

    def __init__(self, config: ImageConfig, dim: int) -> None:
        super().__init__()
        check_width_of_field(dim)
        self.config = config
        size = config.patch_size
        self.num_values = config.in_channels * size**2
        # A convolution in name only, so that its weight has the shape of released checkpoints.
        self.proj = nn.Conv2d(config.in_channels, dim, size, size)
        nn.init.xavier_uniform_(self.proj.weight.view(dim, -1))
        self._positions = torch.empty(0, dim)
        self._positions_of = Grid(0, 0)

    @property
    def takes(self) -> ImageInput:
        return ImageInput(self.config.in_channels)

    def grid(self, clips: Float[Tensor, "batch channels rows columns"]) -> Grid:
        """Rows and columns of patches; ValueError if an image is not a whole number of patches."""
        channels, rows, columns = clips.shape[1:]
        size = self.config.patch_size
        if channels != self.config.in_channels or rows % size or columns % size or not rows or not columns:
            raise ValueError(
                f"the encoder expects images of {self.config.in_channels} channels and of sides in multiples of {size} "
                f"pixels, got {channels} channels of {rows} x {columns}"
            )
        return Grid(rows // size, columns // size)

    def read(self, batch: ImageBatch) -> EncoderInput:
        return EncoderInput(batch.images)

    def patchify(self, clips: Float[Tensor, "batch channels rows columns"]) -> Float[Tensor, "batch patches values"]:
        """The patches' own values, patches row by row, values channel by channel."""
        rows, columns = self.grid(clips)
        size, channels = self.config.patch_size, self.config.in_channels
        patches = clips.reshape(-1, channels, rows, size, columns, size).permute(0, 2, 4, 1, 3, 5)
        return patches.reshape(clips.shape[0], rows * columns, self.num_values)

    def forward(self, clips: Float[Tensor, "batch channels rows columns"]) -> Float[Tensor, "batch patches dim"]:
        tokens = F.linear(self.patchify(clips), self.proj.weight.flatten(1), self.proj.bias)
        grid = self.grid(clips)
        if grid != self._positions_of or self._positions.device != tokens.device:
            with torch.inference_mode(False):
                self._positions = sincos_positions(*grid, tokens.shape[-1]).to(tokens.device)
            self._positions_of = grid
        return tokens + self._positions
