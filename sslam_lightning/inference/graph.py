"""A model as one graph from waveforms on, in operations that exchange formats have; equal to eager up to rounding."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sslam_lightning.features import LogMels, scaled_decibels
from sslam_lightning.features.decibels import LEAST_POWER, decibel_tables, fft_samples
from sslam_lightning.features.fbank import fbank_tables, hop_samples, window_samples
from sslam_lightning.inference.model import AudioModel
from sslam_lightning.layers import mel_major_positions, sincos_positions
from sslam_lightning.models import Encoder, SpectrogramPatches

_PRE_EMPHASIS = 0.97
_MAX_SECONDS = 120  # what one pass takes


class LogMelsGraph(nn.Module):
    """:class:`~sslam_lightning.features.LogMels` of waveforms that are all of one length.

    The Fourier transform is written as a matrix product, as not every runtime has another. Extents come from the input.

    Args:
        features: the settings; ``num_frames`` None: whole patches that hold the sound.
    """

    window: Tensor
    fourier: Tensor
    mel_bank: Tensor

    def __init__(self, features: LogMels) -> None:
        super().__init__()
        self.features = features
        self.hop, self.size = hop_samples(features.sample_rate_hz), window_samples(features.sample_rate_hz)
        window, mel_bank = fbank_tables(features.sample_rate_hz, features.num_mels, torch.device("cpu"), features.window)
        self.register_buffer("window", window)
        self.register_buffer("fourier", _fourier(self.size, len(mel_bank)).float())
        self.register_buffer("mel_bank", mel_bank)

    def forward(self, waveforms: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch time frames mels"]:
        """Normalized log-mels, already by patches in time: no later view has to divide an extent that is not known yet."""
        num_samples, patch, device = waveforms.shape[1], self.features.patch_frames, waveforms.device
        filling = patch if self.features.partial_patch == "pad" else 1
        num_time = ((num_samples - self.size) // self.hop + filling) // patch
        if self.features.num_frames is not None:
            num_time = self.features.num_frames // patch
        start = (torch.arange(num_time, device=device)[:, None] * patch + torch.arange(patch, device=device)) * self.hop
        place = start[..., None] + torch.arange(self.size, device=device)
        if self.features.remove_mean:
            waveforms = waveforms - waveforms.mean(dim=1, keepdim=True)
        frames = waveforms[:, place.clamp(max=num_samples - 1)]
        frames = frames - frames.mean(dim=3, keepdim=True)
        previous = torch.cat([frames[..., :1], frames[..., :-1]], dim=3)
        signal = (frames - previous * _PRE_EMPHASIS) * self.window
        log_mels = _mel_energy(signal, self.fourier, self.mel_bank).clamp(min=torch.finfo(torch.float32).eps).log()
        log_mels = log_mels * (start + self.size <= num_samples).unsqueeze(2)
        return (log_mels - self.features.mean) / (2 * self.features.std)


class DecibelsGraph(nn.Module):
    """:class:`LogMelsGraph` for ``kind`` decibel."""

    fourier: Tensor
    mel_bank: Tensor

    def __init__(self, features: LogMels) -> None:
        super().__init__()
        self.features = features
        self.hop, self.size = hop_samples(features.sample_rate_hz), fft_samples(features.sample_rate_hz)
        window, mel_bank = decibel_tables(features.sample_rate_hz, features.num_mels, torch.device("cpu"))
        self.register_buffer("fourier", (_fourier(self.size, len(mel_bank)) * window.double()[:, None]).float())
        self.register_buffer("mel_bank", mel_bank)

    def forward(self, waveforms: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch time frames mels"]:
        """Scaled decibels by patches in time; all of a clip is scaled before any of it is cut off."""
        num_samples, patch, device = waveforms.shape[1], self.features.patch_frames, waveforms.device
        num_time = (num_samples // self.hop + patch) // patch  # of patches that hold the clip
        middle = (torch.arange(num_time, device=device)[:, None] * patch + torch.arange(patch, device=device)) * self.hop
        place = (middle[..., None] + torch.arange(-(self.size // 2), self.size // 2, device=device)).abs()
        last = num_samples - 1
        place = (last - (last - place).abs()).clamp(min=0)  # mirrored at both ends; frames behind them do not count
        energy = _mel_energy(waveforms[:, place], self.fourier, self.mel_bank)
        decibels = (energy.clamp(min=LEAST_POWER).log10() * 10.0).flatten(1, 2)
        valid = (middle <= num_samples).flatten()[None].expand(waveforms.shape[0], -1)
        scaled = scaled_decibels(decibels, valid).unflatten(1, (-1, patch))
        if self.features.num_frames is None:
            return scaled if self.features.partial_patch == "pad" else scaled[:, : (num_samples // self.hop + 1) // patch]
        length = self.features.num_frames // patch
        return torch.cat([scaled, scaled.new_zeros(scaled.shape[0], length, patch, scaled.shape[3])], dim=1)[:, :length]


def _fourier(size: int, num_bins: int) -> Float[Tensor, "samples bins_twice"]:
    """The Fourier transform as a matrix, in float64: cosines, then sines."""
    angle = torch.arange(size, dtype=torch.float64)[:, None] * torch.arange(num_bins) * torch.pi / num_bins
    return torch.cat([angle.cos(), angle.sin()], dim=1)


def _mel_energy(frames: Tensor, fourier: Tensor, mel_bank: Tensor) -> Tensor:
    real, imaginary = (frames @ fourier).chunk(2, dim=3)
    return (real * real + imaginary * imaginary) @ mel_bank


class EncoderGraph(nn.Module):
    """Waveforms to embeddings, or to class probabilities.

    Args:
        model: what to write down; its ``padding`` decides whether there is one length or any.
        what: which outputs.
    """

    positions: Tensor

    def __init__(self, model: AudioModel, what: Literal["encoder", "classifier"]) -> None:
        super().__init__()
        features = model.features if model.features and model.padding == "trained" else model.any_length_features
        self.log_mels = (DecibelsGraph if features.kind == "decibel" else LogMelsGraph)(features)
        assert isinstance(model.encoder, Encoder), "others have been refused"
        self.encoder, self.head = model.encoder, model.head if what == "classifier" else None
        self.multi_label = model.multi_label
        self.max_samples = _MAX_SECONDS * features.sample_rate_hz
        self.min_samples = features.frame_samples + features.patch_frames * self.log_mels.hop  # of one patch, it is another
        num_mel, columns = features.num_mels // features.patch_frames, self.encoder.config.max_time_patches
        num_time = columns or (features.num_frames or _MAX_SECONDS * 100) // features.patch_frames
        table = (mel_major_positions if columns else sincos_positions)(num_time, num_mel, model.dim)
        self.register_buffer("positions", table.unflatten(0, (num_time, num_mel)))
        if columns and features.num_frames is None:  # one piece: any number of them would be a loop
            self.max_samples = min(self.max_samples, columns * features.patch_frames * self.log_mels.hop - 1)

    def forward(self, waveforms: Float[Tensor, "batch samples"]) -> tuple[Tensor, ...]:
        """The clip's embedding (batch, dim) and the patches' (batch, time, mel, dim), or probabilities (batch, classes)."""
        front_end = self.encoder.front_end
        assert isinstance(front_end, SpectrogramPatches), "the model has refused others"
        log_mels = self.log_mels(waveforms)
        size, mel = front_end.token_frames, front_end.num_mels // front_end.token_mels
        patches = log_mels.unflatten(3, (mel, size)).transpose(2, 3).flatten(3)
        tokens = F.linear(patches, front_end.proj.weight.flatten(1), front_end.proj.bias)
        tokens = tokens + self.positions[: log_mels.shape[1]]
        encoded = self.encoder.encode(tokens.flatten(1, 2))
        if self.head is None:
            return encoded.cls, encoded.tokens.unflatten(1, (-1, mel))
        logits = self.head(encoded)
        return (logits.sigmoid() if self.multi_label else logits.softmax(dim=1),)
