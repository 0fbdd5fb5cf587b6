"""The sizes and switches of encoder and decoder, as plain data that checkpoints and YAML files can hold."""

from __future__ import annotations

from dataclasses import dataclass

from sslam_lightning.layers.block import NormOrder


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
        norm_order: where blocks normalise, see :class:`sslam_lightning.layers.Block`.
        norm_eps: epsilon of the layer norms.
        prenet_depth: blocks between input norm and main blocks whose outputs are never targets.
        drop_path_start: drop path of the first block; it rises in a straight line to the last.
        drop_path_end: drop path of the last block.
        attention_dropout: on attention weights.
        dropout: on the outputs of attention and feed-forward layers.
        activation_dropout: inside the feed-forward layers.
        post_mlp_dropout: on the feed-forward branch, behind the point where targets are taken.
        input_dropout: on the tokens that enter the first block.
        layer_drop: probability with which training skips a whole block.
    """

    dim: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_ratio: float = 4.0
    patch_size: int = 16
    num_mels: int = 128
    in_channels: int = 1
    norm_order: NormOrder = "post"
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

    def __post_init__(self) -> None:
        if self.depth < 1:
            raise ValueError(f"an encoder needs at least one block, got depth {self.depth}")
        for name in ("dim", "num_heads", "patch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.in_channels != 1:
            raise ValueError(f"a spectrogram has one channel, got in_channels {self.in_channels}")
        if self.num_mels % self.patch_size:
            raise ValueError(f"num_mels must be a multiple of patch_size, got {self.num_mels} mels and {self.patch_size}")
        if self.dim % 4:
            raise ValueError(f"dim must be a multiple of 4 (2-D sine-cosine positions), got {self.dim}")


@dataclass
class DecoderConfig:
    """The convolutional decoder of stage 1 and 2 (data2vec 2.0, arXiv 2212.07525, section 3.2).

    Args:
        dim: channels of the convolutions.
        depth: number of convolutions.
        kernel_size: side of their square kernels.
        groups: channel groups of the convolutions.
        noise_std: standard deviation of the noise that stands in for hidden patches.
    """

    dim: int = 768
    depth: int = 6
    kernel_size: int = 3
    groups: int = 16
    noise_std: float = 0.01

    def __post_init__(self) -> None:
        if self.depth < 1 or self.kernel_size < 1:
            raise ValueError(f"a decoder needs depth and kernel_size of at least 1, got {self.depth}, {self.kernel_size}")
        if self.dim % self.groups:
            raise ValueError(f"the decoder's dim must be a multiple of its groups, got {self.dim} and {self.groups}")
