"""What every front-end is: it turns what the data give into tokens with positions.

To add a modality, write a file with a front-end and its settings, and name the settings in a recipe
(``encoder.front_end.class_path``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from sslam_lightning.models.front_ends.inputs import Input
from sslam_lightning.types import Grid


class EncoderInput(NamedTuple):
    """What a front-end reads of a batch. ``padding`` is None where all clips are equally long."""

    clips: Shaped[Tensor, "clips *shape"]
    padding: Bool[Tensor, "clips tokens"] | None = None


class TokenReader(ABC):
    """What knows how an encoder's clips come out of a batch and become tokens."""

    min_samples: int = 1  # in the shortest clip that makes one token
    num_values = 0  # in the part of a clip that becomes one token; 0: tokens are no patches

    @property
    def takes(self) -> Input | None:
        """What the clips are; None: nothing that inference knows."""
        return None

    @abstractmethod
    def read(self, batch: Any) -> EncoderInput:
        """The clips of a batch, and which of their tokens are padding."""

    @abstractmethod
    def grid(self, clips: Shaped[Tensor, "batch *shape"]) -> Grid:
        """The field of tokens that clips of this shape become; ValueError if it takes clips of another shape."""


class FrontEnd(nn.Module, TokenReader):
    """Cuts clips into tokens. ``forward`` embeds all tokens of a clip and adds fixed positions."""

    @abstractmethod
    def forward(self, clips: Shaped[Tensor, "batch *shape"]) -> Float[Tensor, "batch tokens dim"]:
        """All tokens, embedded."""

    def read(self, batch: Any) -> EncoderInput:
        """What :meth:`forward` takes, out of a batch; ValueError if the front-end cannot do without features."""
        raise ValueError(f"the {type(self).__name__} front-end reads features, but model.features is null")

    def patchify(self, clips: Shaped[Tensor, "batch *shape"]) -> Float[Tensor, "batch tokens values"]:
        """The values behind every token, for reconstruction; ValueError if tokens overlap or are no numbers."""
        raise ValueError(f"the {type(self).__name__} front-end has no patches that could be reconstructed")


class FrontEndConfig(ABC):
    """The settings of a front-end; its subclasses are dataclasses of plain values."""

    @abstractmethod
    def build(self, dim: int) -> FrontEnd:
        """The front-end for an encoder of this width."""


def padding_behind(
    lengths: Int[Tensor, "clips"], num_tokens: int, device: torch.device
) -> Bool[Tensor, "clips tokens"] | None:
    """True behind the last of ``lengths[i]`` tokens; None where no clip is shorter than the longest.

    With ``lengths`` on the host a GPU is not waited for.
    """
    if not bool((lengths < num_tokens).any()):
        return None
    return torch.arange(num_tokens, device=device) >= lengths.to(device, non_blocking=True).unsqueeze(1)
