"""All layers of a frozen encoder, whatever it reads and whether it has a clip token."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from sslam_lightning.evaluation.model import OpenedModel
from sslam_lightning.models import ClipEncoder, Readings
from sslam_lightning.models.encoder import mean_of_tokens
from sslam_lightning.types import Batch

_SAMPLES_A_FRAME = 160


class Layers(NamedTuple):
    """The outputs of all blocks, the first token of each being the clip's; the last layer is the encoder's output."""

    tokens: Float[Tensor, "clips layers clip_and_tokens dim"]
    padding: Bool[Tensor, "clips tokens"] | None = None  # True behind a clip's end


@torch.no_grad()
def all_layers(encoder: ClipEncoder, readings: Readings) -> Layers:
    """Run every block and keep what it makes. Without a clip token, the mean of a layer's tokens is its clip."""
    layers = list(encoder.layer_outputs(*readings, hide_padding=False))
    tokens = torch.stack(layers, dim=1)
    if encoder.clip_token is None:
        means = [mean_of_tokens(layer, readings.padding) for layer in layers]
        tokens = torch.cat([torch.stack(means, dim=1).unsqueeze(2), tokens], dim=2)
    return Layers(tokens, readings.padding)


def read(model: OpenedModel, batch: Batch) -> Readings:
    """What the model's front-end takes, at the common length of all clips.

    Raises:
        ValueError: if nothing says how long a clip is.
    """
    if model.num_frames is None:
        raise ValueError("clips need a common length: set features.num_frames in the suite, or --features.num_frames")
    if model.features is not None:
        return Readings(model.features(batch.waveforms, batch.num_samples))
    most = model.num_frames * _SAMPLES_A_FRAME
    waveforms = F.pad(batch.waveforms, (0, max(0, most - batch.waveforms.shape[1])))[:, :most]
    lengths = [min(length, most) for length in batch.lengths]
    return model.encoder.front_end.read(batch._replace(waveforms=waveforms, lengths=lengths))
