"""The encoder that X-ARES asks for (Zhang et al., 2025, https://github.com/jimbozhang/xares).

``SSLAM_MODEL=MODEL python -m xares.run sslam_lightning/adapters/xares.py TASK.py``: X-ARES takes the one class of this
module whose name ends in "Encoder" and calls it without arguments, so the model (a checkpoint file, a folder or a Hub
id) is named by the environment.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sslam_lightning.adapters.hear import open_model


class SSLAMEncoder(nn.Module):
    """Frame embeddings of sounds that are all of one length.

    Args:
        model: a checkpoint file, a folder or a Hub id; None: what the environment variable SSLAM_MODEL names.
    """

    def __init__(self, model: str | None = None) -> None:
        super().__init__()
        self.model = open_model(model or "")
        self.sampling_rate = self.model.sample_rate_hz
        self.output_dim = self.model.dim
        self.hop_size_in_ms = 1000 * self.model.frame_seconds

    def forward(self, audio: Float[Tensor, "*sounds samples"]) -> Float[Tensor, "sounds time dim"]:
        """An embedding every ``hop_size_in_ms``.

        Args:
            audio: at ``sampling_rate``, full scale 1; one sound may come without its first axis.
        """
        return self.model(torch.atleast_2d(audio), self.sampling_rate).frames
