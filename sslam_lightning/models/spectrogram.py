"""Front-end for spectrograms: log-mels to patch tokens with positions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sslam_lightning.layers import sincos_positions
from sslam_lightning.models.config import EncoderConfig
from sslam_lightning.models.front_end import FrontEnd
from sslam_lightning.types import Grid


class SpectrogramPatches(FrontEnd):
    """Cuts log-mels into square patches, embeds each with one linear map, and adds fixed sine-cosine positions."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        self.num_values = config.patch_size**2
        self.num_mel_patches = config.num_mels // config.patch_size
        # A convolution in name only, so that its weight has the shape of released checkpoints.
        self.proj = nn.Conv2d(config.in_channels, config.dim, config.patch_size, config.patch_size)
        nn.init.xavier_uniform_(self.proj.weight.view(config.dim, -1))
        nn.init.zeros_(self.proj.bias)  # type: ignore[arg-type]
        self._positions = torch.empty(0, config.dim)

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
        return tokens + self._positions_for(tokens)

    def _positions_for(self, tokens: Tensor) -> Tensor:
        """The first rows of the table of positions, which grows with the longest clip seen.

        It is no buffer: there is nothing to save, and DistributedDataParallel would broadcast it at every step.
        """
        num_patches = tokens.shape[1]
        if self._positions.shape[0] < num_patches or self._positions.device != tokens.device:
            with torch.inference_mode(False):
                num_time = max(num_patches, self._positions.shape[0]) // self.num_mel_patches
                table = sincos_positions(num_time, self.num_mel_patches, tokens.shape[-1])
                self._positions = table.to(tokens.device)
        return self._positions[:num_patches]
