"""Building blocks of transformers. They know neither audio nor learning."""

from sslam_lightning.layers.alibi import Alibi
from sslam_lightning.layers.attention import Attention
from sslam_lightning.layers.block import Block
from sslam_lightning.layers.conv_positions import ConvPositions
from sslam_lightning.layers.drop_path import DropPath
from sslam_lightning.layers.gather import gather_tokens, scatter_tokens
from sslam_lightning.layers.positions import PositionTable, mel_major_positions, sincos_positions, sinusoidal_positions

__all__ = [
    "Alibi",
    "Attention",
    "Block",
    "ConvPositions",
    "DropPath",
    "PositionTable",
    "gather_tokens",
    "mel_major_positions",
    "scatter_tokens",
    "sincos_positions",
    "sinusoidal_positions",
]
