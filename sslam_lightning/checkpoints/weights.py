"""What a checkpoint file offers, in this project's names."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from sslam_lightning.models import DecoderConfig, EncoderConfig

State = dict[str, Tensor]


class Weights(NamedTuple):
    """The parts of a checkpoint; None where the file has none.

    ``teacher`` has the encoder's names, as ``student`` has. ``unused`` lists keys of the file that no part took.
    """

    source: str
    encoder: EncoderConfig
    student: State
    teacher: State | None = None
    decoder_config: DecoderConfig | None = None
    decoder: State | None = None
    reconstruction: State | None = None
    head: State | None = None
    unused: tuple[str, ...] = ()
