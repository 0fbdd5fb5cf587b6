"""What a checkpoint file offers, in this project's names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from torch import Tensor

from sslam_lightning.models import DecoderConfig, EncoderConfig
from sslam_lightning.models.heads import Pooling

State = dict[str, Tensor]
Part = Literal["student", "teacher"]

_ARCHITECTURE = (
    "in_channels",
    "num_mels",
    "patch_size",
    "dim",
    "depth",
    "prenet_depth",
    "num_heads",
    "mlp_ratio",
    "norm_order",
    "norm_eps",
)


class Weights(NamedTuple):
    """The parts of a checkpoint; None where the file has none.

    ``teacher`` has the encoder's names, as ``student`` has. ``unused`` lists keys of the file that no part took.
    ``features`` are the keyword arguments of :class:`sslam_lightning.features.LogMels` that the model was trained with,
    None where the file does not say. ``multi_label`` and ``pooling`` are about the head, ``resampler`` about the data.
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
    features: Mapping[str, Any] | None = None
    class_names: tuple[str, ...] = ()
    multi_label: bool = True
    pooling: Pooling = "clip_token"
    resampler: str = "torchaudio"

    def part(self, name: Part) -> State:
        """One of the encoders.

        Raises:
            ValueError: if the file has no teacher.
        """
        state = self.student if name == "student" else self.teacher
        if state is None:
            raise ValueError(f"{self.source} holds no {name}: set model.init_part to student, or ask for the part student")
        return state

    def check_architecture(self, config: EncoderConfig, whose: str = "the configured one") -> None:
        """Refuse a configured encoder whose weights these are not. Switches of training, such as dropout, may differ.

        Raises:
            ValueError: naming the first setting that differs.
        """
        for name in _ARCHITECTURE:
            theirs, ours = getattr(self.encoder, name), getattr(config, name)
            if theirs != ours:
                raise ValueError(f"{self.source}: its encoder.{name} is {theirs}, {whose} is {ours}")
