"""What a checkpoint file offers, in this project's names."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from sslam_lightning.models import DecoderConfig, EncoderConfig, TransformerDecoderConfig

State = dict[str, Tensor]


class Weights(NamedTuple):
    """The parts of a checkpoint; None where the file has none.

    ``teacher`` has the encoder's names, as ``student`` has. ``unused`` lists keys of the file that no part took.
    """

    source: str
    encoder: EncoderConfig
    student: State
    teacher: State | None = None
    decoder_config: DecoderConfig | TransformerDecoderConfig | None = None
    decoder: State | None = None
    reconstruction: State | None = None
    head: State | None = None
    unused: tuple[str, ...] = ()
    contrast: State | None = None  # MAE-AST's second read-out of the decoder

    def check_architecture(self, config: EncoderConfig) -> None:
        """Refuse what no shape tells: weights of one architecture load into another and mean nothing there.

        Raises:
            ValueError: naming the first setting that differs.
        """
        for name in ("num_heads", "norm_order", "norm_eps"):
            theirs, ours = getattr(self.encoder, name), getattr(config, name)
            if theirs != ours:
                raise ValueError(f"{self.source}: its encoder.{name} is {theirs}, the configured one is {ours}")
