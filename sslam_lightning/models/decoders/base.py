"""What every decoder is: it predicts the hidden patches of a clip from the visible ones.

To add one, write a file with a decoder and its settings, and name the settings in a recipe (``decoder.class_path``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from sslam_lightning.types import Grid, Mask


class DecoderConfig(ABC):
    """The settings of a decoder; its subclasses are dataclasses of plain values.

    Args:
        dim: width of its layers; None is the encoder's.
        depth: number of its layers.
    """

    dim: int | None
    depth: int

    @abstractmethod
    def build(self, dim: int) -> Decoder:
        """The decoder for an encoder of this width."""


class Decoder(nn.Module, ABC):
    """Predicts hidden patches. ``config`` holds its own width as a number, ``output_dim`` that of its predictions."""

    config: DecoderConfig
    output_dim: int

    @abstractmethod
    def forward(
        self, visible: Float[Tensor, "rows visible dim"], mask: Mask, grid: Grid
    ) -> Float[Tensor, "rows hidden output"]:
        """Predict the hidden patches, in the order of ``mask.ids_masked``."""
