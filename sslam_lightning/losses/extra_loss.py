"""What an loss of your own is: a file with one class, named in a recipe (``model.extra_loss.class_path``)."""

from __future__ import annotations

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor

from sslam_lightning.types import Mask, Predictions, Targets


class ExtraLoss(ABC):
    """A loss beside the configured ones. Write it as a frozen dataclass of plain settings."""

    @abstractmethod
    def __call__(
        self, predictions: Predictions, wanted: Float[Tensor, "rows hidden dim"], targets: Targets, mask: Mask
    ) -> Float[Tensor, ""]:
        """One number, already weighted.

        Args:
            predictions: the student's, at hidden patches and for the clip; rows are clips x masks, clip by clip.
            wanted: the targets at the hidden patches.
            targets: those of whole clips.
            mask: which patches each row hides.
        """
