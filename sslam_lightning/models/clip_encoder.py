"""What fine-tuning, inference and evaluation know of an encoder, whoever has written it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from sslam_lightning.models.front_ends.base import TokenReader
from sslam_lightning.types import EncoderOutput


class ClipEncoder(nn.Module, ABC):
    """Clips in, a vector of the clip and its tokens out, time-major as :class:`~sslam_lightning.types.Grid` says.

    In all arguments ``padding`` is True for tokens behind a clip's end.
    """

    config: Any  # of what `build_encoder` takes
    dim: int  # of a token
    depth: int  # blocks
    front_end: TokenReader
    cls_token: nn.Parameter | None  # None: the mean of a clip's tokens stands for the clip
    masks_padding = True  # or padding is always seen

    @abstractmethod
    def forward(
        self, clips: Shaped[Tensor, "batch *shape"], padding: Bool[Tensor, "batch patches"] | None = None
    ) -> EncoderOutput:
        """Encode whole clips."""

    @abstractmethod
    def layer_outputs(
        self,
        clips: Shaped[Tensor, "batch *shape"],
        padding: Bool[Tensor, "batch patches"] | None = None,
        hide_padding: bool = True,
    ) -> Iterator[Float[Tensor, "batch clip_and_tokens dim"]]:
        """The output of one block after the other, CLS token first, where there is one; the last as ``forward`` has it.

        For inference: no block is ever dropped. Without ``hide_padding`` padding is as in training, see
        :meth:`sslam_lightning.models.Encoder.select_tokens`.
        """

    @abstractmethod
    def all_blocks(self) -> Sequence[nn.Module]:
        """From the input to the output."""

    def in_layers(self) -> nn.Module:
        """All parameters by the names that layer decay knows: ``blocks.0`` and so on, below them ``front_end``."""
        return self
