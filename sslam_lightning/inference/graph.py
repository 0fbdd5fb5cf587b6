"""A model as one graph from waveforms on, in operations that exchange formats have; equal to eager up to rounding."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sslam_lightning.features import LogMels, scaled_decibels
from sslam_lightning.features.fbank import fbank_tables, hop_samples, window_samples
from sslam_lightning.inference.model import AudioModel
from sslam_lightning.layers import sincos_positions
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
        num_bins = mel_bank.shape[0]
        angle = torch.arange(self.size, dtype=torch.float64)[:, None] * torch.arange(num_bins) * torch.pi / num_bins
        self.register_buffer("window", window)
        self.register_buffer("fourier", torch.cat([angle.cos(), angle.sin()], dim=1).float())
        self.register_buffer("mel_bank", mel_bank)

    def forward(self, waveforms: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch time frames mels"]:
        """Normalised log-mels, already by patches in time: no later view has to divide an extent that is not known yet."""
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
        spectrum = ((frames - previous * _PRE_EMPHASIS) * self.window) @ self.fourier
        real, imaginary = spectrum.chunk(2, dim=3)
        energy = (real * real + imaginary * imaginary) @ self.mel_bank
        log_mels = energy.clamp(min=torch.finfo(torch.float32).eps).log()
        valid = start + self.size <= num_samples
        if self.features.kind == "decibel":
            valid = valid.flatten()[None].expand(waveforms.shape[0], -1)
            return scaled_decibels(log_mels.flatten(1, 2), valid).unflatten(1, (-1, patch))
        log_mels = log_mels * valid.unsqueeze(2)
        return (log_mels - self.features.mean) / (2 * self.features.std)


class EncoderGraph(nn.Module):
    """Waveforms to embeddings, or to class probabilities.

    Args:
        model: what to write down; its ``padding`` decides whether there is one length or any.
        what: which outputs.
    """

    time_positions: Tensor
    mel_positions: Tensor

    def __init__(self, model: AudioModel, what: Literal["encoder", "classifier"]) -> None:
        super().__init__()
        features = model.features if model.features and model.padding == "trained" else model.any_length_features
        self.log_mels = LogMelsGraph(features)
        assert isinstance(model.encoder, Encoder), "others have been refused"
        self.encoder, self.head = model.encoder, model.head if what == "classifier" else None
        self.multi_label = model.multi_label
        self.max_samples = _MAX_SECONDS * features.sample_rate_hz
        self.min_samples = (
            self.log_mels.size + features.patch_frames * self.log_mels.hop
        )  # of one patch, a graph is another
        # Of a position's width one half tells the mel and one the time: two short tables instead of a long one.
        num_time = max(_MAX_SECONDS * 100, features.num_frames or 0) // features.patch_frames
        dim = model.dim
        self.register_buffer("time_positions", sincos_positions(num_time, 1, dim)[:, dim // 2 :])
        num_mel = features.num_mels // features.patch_frames
        self.register_buffer("mel_positions", sincos_positions(1, num_mel, dim)[:, : dim // 2])

    def forward(self, waveforms: Float[Tensor, "batch samples"]) -> tuple[Tensor, ...]:
        """The clip's embedding (batch, dim) and the patches' (batch, time, mel, dim), or probabilities (batch, classes)."""
        front_end = self.encoder.front_end
        assert isinstance(front_end, SpectrogramPatches), "the model has refused others"
        log_mels = self.log_mels(waveforms)
        size, mel, time = front_end.patch_size, front_end.num_mel_patches, log_mels.shape[1]
        patches = log_mels.unflatten(3, (mel, size)).transpose(2, 3).flatten(3)
        tokens = F.linear(patches, front_end.proj.weight.flatten(1), front_end.proj.bias)
        by_mel = self.mel_positions[None].expand(time, mel, -1)
        by_time = self.time_positions[:time, None].expand(time, mel, -1)
        tokens = tokens + torch.cat([by_mel, by_time], dim=2)
        encoded = self.encoder.encode(tokens.flatten(1, 2))
        if self.head is None:
            return encoded.clip, encoded.tokens.unflatten(1, (-1, mel))
        logits = self.head(encoded)
        return (logits.sigmoid() if self.multi_label else logits.softmax(dim=1),)
