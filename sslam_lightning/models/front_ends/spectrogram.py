"""Front-end for spectrograms: log-mels to patch tokens with positions."""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sslam_lightning.layers import PositionTable, mel_major_positions, sincos_positions
from sslam_lightning.layers.positions import check_width_of_field
from sslam_lightning.models.config import EncoderConfig
from sslam_lightning.models.front_ends.base import FrontEnd
from sslam_lightning.models.front_ends.inputs import LogMelInput
from sslam_lightning.types import Grid


class SpectrogramFrontEnd(FrontEnd):
    """Cuts log-mels into tokens of ``token_frames`` x ``token_mels`` that do not overlap."""

    def __init__(self, num_mels: int, token_frames: int, token_mels: int) -> None:
        super().__init__()
        self.num_mels, self.token_frames, self.token_mels = num_mels, token_frames, token_mels
        self.num_values = token_frames * token_mels

    @property
    def takes(self) -> LogMelInput:
        return LogMelInput(self.num_mels, self.token_frames, self.token_frames)

    def grid(self, clips: Float[Tensor, "batch frames mels"]) -> Grid:
        """How many tokens a clip has in time and mel; ValueError if that is no whole number."""
        num_frames, num_mels = clips.shape[-2:]
        if num_frames % self.token_frames or num_frames == 0 or num_mels != self.num_mels:
            raise ValueError(
                f"the encoder expects frames in multiples of {self.token_frames} and {self.num_mels} mels, "
                f"got {num_frames} frames and {num_mels} mels"
            )
        return Grid(num_frames // self.token_frames, num_mels // self.token_mels)

    def patchify(self, clips: Float[Tensor, "batch frames mels"]) -> Float[Tensor, "batch tokens values"]:
        """The values of every token, tokens time-major, values frame-major."""
        time, mel = self.grid(clips)
        tokens = clips.reshape(-1, time, self.token_frames, mel, self.token_mels).transpose(2, 3)
        return tokens.reshape(clips.shape[0], time * mel, self.num_values)


class SpectrogramPatches(SpectrogramFrontEnd):
    """Cuts log-mels into square patches, embeds each with one linear map, and adds fixed sine-cosine positions."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config.num_mels, config.patch_size, config.patch_size)
        check_width_of_field(config.dim)
        # A convolution in name only, so that its weight has the shape of released checkpoints.
        self.proj = nn.Conv2d(config.in_channels, config.dim, config.patch_size, config.patch_size)
        if config.weight_init == "normal":
            nn.init.xavier_uniform_(self.proj.weight.view(config.dim, -1))
        num_mel_patches = config.num_mels // config.patch_size
        make = partial(_make_positions, num_mel_patches, config.dim, config.max_time_patches)
        self._positions = PositionTable(make)

    def forward(self, clips: Float[Tensor, "batch frames mels"]) -> Float[Tensor, "batch patches dim"]:
        tokens = F.linear(self.patchify(clips), self.proj.weight.flatten(1), self.proj.bias)
        return tokens + self._positions(tokens)


def _make_positions(num_mel: int, dim: int, num_time: int | None, num_patches: int) -> Float[Tensor, "patches dim"]:
    if num_time is None:
        return sincos_positions(-(-num_patches // num_mel), num_mel, dim)
    # No more of the table than is needed: its size may come from a file.
    table = mel_major_positions(min(num_time, num_patches), min(num_mel, -(-num_patches // num_time)), dim)
    return table.repeat(-(-num_patches // len(table)), 1)  # every piece of a longer clip begins at the first position
