"""What a loss of your own is: a file with one class, named in a recipe (``model.extra_loss.class_path``)."""

from __future__ import annotations

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor

from sslam_lightning.types import PretrainOutput


class ExtraLoss(ABC):
    """A loss in addition to the configured ones. Write it as a frozen dataclass of plain settings."""

    @abstractmethod
    def __call__(self, output: PretrainOutput) -> Float[Tensor, ""]:
        """One number, already weighted."""
