"""MAE-AST's front-end: log-mels normalised over the batch, cut into patches or frames (arXiv 2203.16691, section 2)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from jaxtyping import Float
from torch import Tensor, nn

from sslam_lightning.layers import PositionTable, sinusoidal_positions
from sslam_lightning.models.front_end import FrontEnd, FrontEndConfig
from sslam_lightning.models.inputs import LogMelInput
from sslam_lightning.types import Grid
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
        """The front-end for an encoder of this width."""
        return SpectrogramTokens(self, dim)


class SpectrogramTokens(FrontEnd):
    """Embeds each token with one linear map and adds sinusoidal positions along the line of all tokens, time-major.

    The input is brought to mean 0 and standard deviation 0.5 over all values of the batch; evaluation uses running
    averages of training's means and variances.
    """

    def __init__(self, config: SpectrogramTokensConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        self.num_values = config.token_frames * config.token_mels
        self.norm = nn.BatchNorm2d(1, affine=False)
        self.proj = nn.Linear(self.num_values, dim)
        self.dropout = nn.Dropout(config.dropout)
        self._positions = PositionTable(partial(sinusoidal_positions, dim=dim))

    @property
    def takes(self) -> LogMelInput:
        """Log-mels of any whole number of tokens."""
        return LogMelInput(self.config.num_mels, self.config.token_frames, self.config.token_frames)

    def grid(self, clips: Float[Tensor, "batch frames mels"]) -> Grid:
        """How many tokens a clip has in time and mel.

        Raises:
            ValueError: if the clip is not a whole number of tokens.
        """
        (num_frames, num_mels), config = clips.shape[1:], self.config
        if num_frames % config.token_frames or num_frames == 0 or num_mels != config.num_mels:
            raise ValueError(
                f"the encoder expects frames in multiples of {config.token_frames} and {config.num_mels} mels, "
                f"got {num_frames} frames and {num_mels} mels"
            )
        return Grid(num_frames // config.token_frames, num_mels // config.token_mels)

    def patchify(self, clips: Float[Tensor, "batch frames mels"]) -> Float[Tensor, "batch tokens values"]:
        """The normalised values of every token, frame-major."""
        (time, mel), config = self.grid(clips), self.config
        normalised = self.norm(clips.float().unsqueeze(1)) * 0.5
        patches = normalised.reshape(-1, time, config.token_frames, mel, config.token_mels).transpose(2, 3)
        return patches.reshape(clips.shape[0], time * mel, self.num_values)

    def embed_patches(self, patches: Float[Tensor, "batch tokens values"]) -> Float[Tensor, "batch tokens dim"]:
        """Tokens of what :meth:`patchify` returns, positions added."""
        tokens = self.dropout(self.proj(patches))
        return tokens + self._positions(tokens)

    def forward(self, clips: Float[Tensor, "batch frames mels"]) -> Float[Tensor, "batch tokens dim"]:
        """Embedded tokens, positions added."""
        return self.embed_patches(self.patchify(clips))
