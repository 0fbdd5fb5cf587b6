"""Front-end for raw waveforms: a stack of convolutions, one token every 20 ms (wav2vec 2.0, section 2; data2vec 2.0)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from sslam_lightning.models.front_ends.base import EncoderInput, FrontEnd, FrontEndConfig, padding_behind
from sslam_lightning.models.front_ends.inputs import WaveformInput
from sslam_lightning.types import Batch, Grid
from sslam_lightning.whole_numbers import check_whole_numbers

Layer = tuple[int, int, int]


@dataclass(frozen=True)
class WaveformConfig(FrontEndConfig):
    """Settings of :class:`WaveformFrames`.

    Args:
        layers: channels, kernel and stride of every convolution; the default makes 49 tokens of a second at 16 kHz.
        normalize: bring every clip to mean 0 and variance 1 over its own samples, as data2vec does.
    """

    layers: tuple[Layer, ...] = ((512, 10, 5), *[(512, 3, 2)] * 4, *[(512, 2, 2)] * 2)
    normalize: bool = True

    def __post_init__(self) -> None:
        check_whole_numbers(self, "front_end")
        if not self.layers or any(number < 1 for layer in self.layers for number in layer):
            raise ValueError("a waveform needs layers of channels, kernel and stride above 0")

    def build(self, dim: int) -> WaveformFrames:
        return WaveformFrames(self, dim)


class WaveformFrames(FrontEnd):
    """Convolutions with layer norms over the channels and GELUs, then a norm and a linear map to the encoder's width."""

    def __init__(self, config: WaveformConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        widths = [1, *(channels for channels, _, _ in config.layers)]
        self.convs = nn.ModuleList(
            nn.Conv1d(before, channels, kernel, stride, bias=False)
            for before, (channels, kernel, stride) in zip(widths[:-1], config.layers, strict=True)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for channels in widths[1:])
        for conv in self.convs:
            nn.init.kaiming_normal_(conv.weight)  # type: ignore[arg-type]
        self.proj_norm = nn.LayerNorm(widths[-1])
        self.proj = nn.Linear(widths[-1], dim)
        self.min_samples = self.takes.min_samples

    @property
    def takes(self) -> WaveformInput:
        return WaveformInput(tuple((kernel, stride) for _, kernel, stride in self.config.layers))

    def grid(self, clips: Float[Tensor, "batch samples"]) -> Grid:
        return self.takes.grid(clips)

    def read(self, batch: Batch) -> EncoderInput:
        waveforms, num_samples = batch.waveforms, batch.num_samples
        behind = padding_behind(self.takes.num_tokens(num_samples), self.grid(waveforms).time, waveforms.device)
        return EncoderInput(normalize_clips(waveforms, num_samples) if self.config.normalize else waveforms, behind)

    def forward(self, clips: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch tokens dim"]:
        """All tokens; positions come later, from :class:`sslam_lightning.layers.ConvPositions`."""
        x = clips.unsqueeze(1)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.gelu(norm(conv(x).transpose(1, 2))).transpose(1, 2)
        return self.proj(self.proj_norm(x.transpose(1, 2)))


def normalize_clips(
    waveforms: Float[Tensor, "batch samples"], num_samples: Int[Tensor, "batch"], eps: float = 1e-5
) -> Float[Tensor, "batch samples"]:
    """Every clip at mean 0 and variance 1 over its own samples, zeros behind its end; ``eps`` adds to the variance."""
    num_samples = num_samples.to(waveforms.device, non_blocking=True)
    outside = torch.arange(waveforms.shape[1], device=waveforms.device) >= num_samples.unsqueeze(1)
    clips = waveforms.float().masked_fill(outside, 0.0)
    count = num_samples.clamp(min=1).unsqueeze(1)
    centered = (clips - clips.sum(dim=1, keepdim=True) / count).masked_fill(outside, 0.0)
    return centered * (centered.square().sum(dim=1, keepdim=True) / count + eps).rsqrt()
