"""The sizes and switches of the encoder, as plain data that checkpoints and YAML files can hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sslam_lightning.layers.block import NormPlacement
from sslam_lightning.models.front_ends.base import FrontEndConfig
from sslam_lightning.whole_numbers import check_whole_numbers


@dataclass
class ConvPositionsConfig:
    """Relative positions by convolution, see :class:`sslam_lightning.layers.ConvPositions`; data2vec's for speech.

    Args:
        depth: number of convolutions.
        width: tokens that all of them together look at.
        groups: channel groups.
    """

    depth: int = 5
    width: int = 95
    groups: int = 16

    def __post_init__(self) -> None:
        check_whole_numbers(self, "encoder.conv_positions")
        check_ranges(self, "encoder.conv_positions", positive=("depth", "width", "groups"))


WeightInit = Literal["normal", "xavier"]

_DROP_PATHS = ("drop_path_start", "drop_path_end", "prenet_drop_path_start", "prenet_drop_path_end")
_DROPOUTS = ("attention_dropout", "dropout", "activation_dropout", "post_mlp_dropout", "input_dropout", "layer_drop")
_SHARES = (*_DROP_PATHS, *_DROPOUTS)


@dataclass
class EncoderConfig:
    """A vision transformer on log-mel patches (EAT, arXiv 2401.03497, section 3.1). The default is EAT's base model.

    Args:
        dim: width of the tokens.
        depth: number of blocks.
        num_heads: attention heads of a block.
        mlp_ratio: hidden width of the feed-forward layers in units of ``dim``.
        patch_size: side of the square patches, in frames and in mels.
        num_mels: mel bins of the input.
        in_channels: channels of the input.
        norm: where blocks normalize, see :class:`sslam_lightning.layers.Block`.
        norm_eps: epsilon of the layer norms.
        prenet_depth: blocks between input norm and main blocks whose outputs are never targets.
        drop_path_start: drop path of the first block; it rises in a straight line to the last.
        drop_path_end: drop path of the last block.
        prenet_drop_path_start: drop path of the prenet's first block; fine-tuning sets this and the next by itself.
        prenet_drop_path_end: drop path of the prenet's last block.
        attention_dropout: on attention weights.
        dropout: on the outputs of attention and feed-forward layers.
        activation_dropout: inside the feed-forward layers.
        post_mlp_dropout: on the feed-forward branch, behind the point where targets are taken.
        input_dropout: on the tokens that enter the first block.
        layer_drop: probability with which training skips a whole block.
        front_end: settings of another front-end than log-mel patches; ``patch_size`` and ``num_mels`` then play no part.
        cls_token: whether there is one. Without it the mean of a clip's tokens stands for the clip.
        input_norm: whether post-norm encoders normalize what enters the first block.
        conv_positions: relative positions by convolution, added to those of the front-end.
        alibi: biases by distance on attention scores, with a scale for each head that is ``fixed`` at 1 or ``learned``.
        gated_attention: multiply what attention finds by sigmoid(W x) before its output projection (BAT, 2026).
        max_time_patches: columns of patches that are encoded together (BAT's public code, 64): longer clips are cut into
            pieces of so many, each of which begins at the first position again, and the CLS token is the mean of theirs.
            The table of positions then is BAT's too: it runs along time, while patches are numbered along the mels. None:
            clips of any length in one pass, every patch at its own place.
        weight_init: of linear layers. ``normal`` (data2vec): N(0, 0.02). ``xavier`` (BAT): Xavier-uniform, with the patch
            embedding as torch draws convolutions and a CLS token from N(0, 0.02).
        zero_cls_token: the CLS token begins at 0, where it is otherwise drawn (data2vec 2.0's ``init_extra_token_zero``).
    """

    dim: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_ratio: float = 4.0
    patch_size: int = 16
    num_mels: int = 128
    in_channels: int = 1
    norm: NormPlacement = "post"
    norm_eps: float = 1e-6
    prenet_depth: int = 0
    drop_path_start: float = 0.0
    drop_path_end: float = 0.0
    attention_dropout: float = 0.0
    dropout: float = 0.0
    activation_dropout: float = 0.0
    post_mlp_dropout: float = 0.0
    input_dropout: float = 0.0
    layer_drop: float = 0.0
    front_end: FrontEndConfig | None = None
    cls_token: bool = True
    input_norm: bool = True
    conv_positions: ConvPositionsConfig | None = None
    alibi: Literal["fixed", "learned"] | None = None
    gated_attention: bool = False
    prenet_drop_path_start: float = 0.0
    prenet_drop_path_end: float = 0.0
    max_time_patches: int | None = None
    weight_init: WeightInit = "normal"
    zero_cls_token: bool = False

    def __post_init__(self) -> None:
        check_whole_numbers(self, "encoder")
        check_ranges(self, "encoder", positive=("dim", "depth", "num_heads", "patch_size", "num_mels"), shares=_SHARES)
        if self.prenet_depth < 0:
            raise ValueError(f"encoder: prenet_depth must not be negative, got {self.prenet_depth}")
        if self.norm_eps <= 0:
            raise ValueError(f"encoder: norm_eps must be positive, got {self.norm_eps}")
        if self.in_channels != 1:
            raise ValueError(f"a spectrogram has one channel, got in_channels {self.in_channels}")
        if self.mlp_ratio * self.dim < 1:
            raise ValueError(f"encoder: mlp_ratio must be at least 1 / dim, got {self.mlp_ratio} and dim {self.dim}")
        if self.num_mels % self.patch_size:
            raise ValueError(f"num_mels must be a multiple of patch_size, got {self.num_mels} mels and {self.patch_size}")
        if self.max_time_patches is not None:
            self._check_pieces(self.max_time_patches)

    def _check_pieces(self, columns: int) -> None:
        if columns < 1:
            raise ValueError(f"encoder: max_time_patches must be at least 1, or null, got {columns}")
        for name in ("front_end", "conv_positions", "alibi"):
            if getattr(self, name) is not None:
                raise ValueError(
                    f"encoder: max_time_patches is for log-mel patches in one table of positions: set {name} to null"
                )
        if not self.cls_token:
            raise ValueError(
                "encoder: max_time_patches needs a CLS token, which is the mean over the pieces: set cls_token true"
            )


def check_ranges(settings: Any, where: str, positive: Sequence[str] = (), shares: Sequence[str] = ()) -> None:
    """Raise ValueError, with name and value, unless ``positive`` settings are None or at least 1, ``shares`` in [0, 1)."""
    for name in positive:
        if (value := getattr(settings, name)) is not None and value < 1:
            raise ValueError(f"{where}: {name} must be at least 1, got {value}")
    for name in shares:
        if not 0 <= getattr(settings, name) < 1:
            raise ValueError(f"{where}: {name} must lie in [0, 1), got {getattr(settings, name)}")
