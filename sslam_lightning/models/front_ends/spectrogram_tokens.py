"""MAE-AST's front-end: log-mels normalized over the batch, cut into patches or frames (arXiv 2203.16691, section 2)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sslam_lightning.layers import PositionTable, sinusoidal_positions
from sslam_lightning.models.front_ends.base import FrontEndConfig
from sslam_lightning.models.front_ends.spectrogram import SpectrogramFrontEnd
from sslam_lightning.whole_numbers import check_whole_numbers


@dataclass(frozen=True)
class SpectrogramTokensConfig(FrontEndConfig):
    """Settings of :class:`SpectrogramTokens`: 16 x 16 makes patches, 2 x 128 makes frames.

    Args:
        token_frames: frames of a token.
        token_mels: mels of a token.
        num_mels: mels of the input.
        dropout: on the embedded tokens, before positions are added.
    """

    token_frames: int = 16
    token_mels: int = 16
    num_mels: int = 128
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_whole_numbers(self, "front_end")
        if self.token_frames < 1:
            raise ValueError(f"front_end: token_frames must be at least 1, got {self.token_frames}")
        if self.token_mels < 1 or self.num_mels < 1 or self.num_mels % self.token_mels:
            raise ValueError(
                f"front_end: num_mels must be a multiple of token_mels, got {self.num_mels} mels and tokens of "
                f"{self.token_frames} frames x {self.token_mels} mels"
            )

    def build(self, dim: int) -> SpectrogramTokens:
        return SpectrogramTokens(self, dim)


class SpectrogramTokens(SpectrogramFrontEnd):
    """Embeds each token with one linear map and adds sinusoidal positions along the line of all tokens, time-major.

    The input is brought to mean 0 and standard deviation 0.5 over all values of the batch; evaluation uses running
    averages of training's means and variances.
    """

    def __init__(self, config: SpectrogramTokensConfig, dim: int) -> None:
        super().__init__(config.num_mels, config.token_frames, config.token_mels)
        self.norm = nn.BatchNorm2d(1, affine=False)
        self.proj = nn.Linear(self.num_values, dim)
        self.dropout = nn.Dropout(config.dropout)
        self._positions = PositionTable(partial(sinusoidal_positions, dim=dim))

    def patchify(self, clips: Float[Tensor, "batch frames mels"]) -> Float[Tensor, "batch tokens values"]:
        """The normalized values of every token, frame-major; the running averages stay as they are."""
        norm = self.norm
        statistics = (None, None) if self.training else (norm.running_mean, norm.running_var)
        normalized = F.batch_norm(clips.float().unsqueeze(1), *statistics, training=self.training, eps=norm.eps)
        return super().patchify(normalized.squeeze(1) * 0.5)

    def forward(self, clips: Float[Tensor, "batch frames mels"]) -> Float[Tensor, "batch tokens dim"]:
        self.grid(clips)  # before the norm counts what is refused
        patches = super().patchify(self.norm(clips.float().unsqueeze(1)).squeeze(1) * 0.5)
        tokens = self.dropout(self.proj(patches))
        return tokens + self._positions(tokens)
