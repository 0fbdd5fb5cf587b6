"""Front-end for spectrograms: log-mels to patch tokens with positions."""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sslam_lightning.layers import PositionTable, mel_major_positions, sincos_positions
from sslam_lightning.layers.positions import check_width_of_field
from sslam_lightning.models.config import EncoderConfig
from sslam_lightning.models.front_end import FrontEnd
from sslam_lightning.models.inputs import LogMelInput
from sslam_lightning.types import Grid


class SpectrogramPatches(FrontEnd):
    """Cuts log-mels into square patches, embeds each with one linear map, and adds fixed sine-cosine positions."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        check_width_of_field(config.dim)
        self.patch_size = config.patch_size
        self.num_values = config.patch_size**2
        self.num_mel_patches = config.num_mels // config.patch_size
        # A convolution in name only, so that its weight has the shape of released checkpoints.
        self.proj = nn.Conv2d(config.in_channels, config.dim, config.patch_size, config.patch_size)
        if config.weight_init == "normal":
            nn.init.xavier_uniform_(self.proj.weight.view(config.dim, -1))
        make = partial(_make_positions, self.num_mel_patches, config.dim, config.max_time_patches)
        self._positions = PositionTable(make)

    @property
    def takes(self) -> LogMelInput:
        """Log-mels of any whole number of patches."""
        return LogMelInput(self.num_mel_patches * self.patch_size, self.patch_size, self.patch_size)

    def grid(self, clips: Float[Tensor, "batch frames mels"]) -> Grid:
        """How many patches a clip has in time and mel.

        Raises:
            ValueError: if the clip is not a whole number of patches.
        """
        num_frames, num_mels = clips.shape[-2:]
        if num_frames % self.patch_size or num_frames == 0 or num_mels != self.num_mel_patches * self.patch_size:
            raise ValueError(
                f"the encoder expects frames in multiples of {self.patch_size} and "
                f"{self.num_mel_patches * self.patch_size} mels, got {num_frames} frames and {num_mels} mels"
            )
        return Grid(num_frames // self.patch_size, self.num_mel_patches)

    def patchify(self, clips: Float[Tensor, "batch frames mels"]) -> Float[Tensor, "batch patches values"]:
        """The patches' own values, patches time-major, values frame-major."""
        time, mel = self.grid(clips)
        size = self.patch_size
        patches = clips.reshape(-1, time, size, mel, size).transpose(2, 3)
        return patches.reshape(clips.shape[0], time * mel, size * size)

    def forward(self, clips: Float[Tensor, "batch frames mels"]) -> Float[Tensor, "batch patches dim"]:
        """Embedded patches, positions added."""
        tokens = F.linear(self.patchify(clips), self.proj.weight.flatten(1), self.proj.bias)
        return tokens + self._positions(tokens)


def _make_positions(num_mel: int, dim: int, num_time: int | None, num_patches: int) -> Float[Tensor, "patches dim"]:
    if num_time is None:
        return sincos_positions(-(-num_patches // num_mel), num_mel, dim)
    # No more of the table than is needed: its size may come from a file.
    table = mel_major_positions(min(num_time, num_patches), min(num_mel, -(-num_patches // num_time)), dim)
    return table.repeat(-(-num_patches // len(table)), 1)  # every piece of a longer clip begins at the first position
