"""What a checkpoint file offers, in this project's names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from sslam_lightning.models import (
    DecoderConfig,
    Encoder,
    EncoderConfig,
    FrontEndConfig,
    HuggingFaceConfig,
    TransformerDecoderConfig,
)
from sslam_lightning.models.heads import Pooling
from sslam_lightning.types import ResamplerName

State = dict[str, Tensor]
Part = Literal["student", "teacher"]
HeadOn = Literal["encoder", "decoder"]

_ARCHITECTURE = (
    "dim",
    "depth",
    "prenet_depth",
    "num_heads",
    "mlp_ratio",
    "norm_order",
    "norm_eps",
    "clip_token",
    "input_norm",
    "conv_positions",
    "alibi",
    "gated_attention",
    "max_time_patches",
)
_CONVOLUTIONS = ("dim", "depth", "kernel_size", "groups", "dimensions", "residual", "projection_depth")
_BLOCKS = (
    "dim",
    "depth",
    "num_heads",
    "mlp_ratio",
    "positions",
    "norm_order",
    "input_norm",
    "norm_eps",
    "gated_attention",
    "projection_bias",
)
_OF_PATCHES = ("in_channels", "num_mels", "patch_size")  # of the front-end that an encoder has if it has no other


class Weights(NamedTuple):
    """The parts of a checkpoint; None where the file has none.

    ``teacher`` has the encoder's names, as ``student`` has, but may lack parts that it takes from the student, see
    :class:`sslam_lightning.models.Teacher`. ``contrast`` is MAE-AST's second read-out of the decoder.
    ``unused`` lists keys of the file that no part took.
    ``features`` are the keyword arguments of :class:`sslam_lightning.features.LogMels` that the model was trained with,
    None where the file does not say. ``multi_label``, ``pooling``, ``head_on`` (whose tokens it takes) and
    ``head_norm_eps`` are about the head, ``resampler`` about the data.
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
    features: Mapping[str, Any] | None = None
    class_names: tuple[str, ...] = ()
    multi_label: bool = True
    pooling: Pooling = "clip_token"
    resampler: ResamplerName = "torchaudio"
    contrast: State | None = None
    head_on: HeadOn = "encoder"
    head_norm_eps: float = 1e-6

    def part(self, name: Part) -> State:
        """One of the encoders, whole: a teacher with the student's parts where it has none of its own.

        Raises:
            ValueError: if the file has no teacher.
        """
        return {**self.student, **one_of(self, name)}

    def new_encoder(self) -> Encoder:
        """The encoder, its weights yet to be filled in: initial ones would be drawn only to be overwritten."""
        with torch.device("meta"):
            encoder = Encoder(self.encoder)
        # As `to_empty`, but no more than has to be.
        return encoder._apply(lambda t: torch.empty_like(t, device="cpu") if t.is_meta else t)

    def check_architecture(self, config: EncoderConfig | HuggingFaceConfig, whose: str = "the configured one") -> None:
        """Refuse a configured encoder whose weights these are not. Switches of training, such as dropout, may differ.

        Raises:
            ValueError: naming the first setting that differs.
        """
        if isinstance(config, HuggingFaceConfig):
            raise ValueError(f"{self.source} holds an encoder of this project, {whose} is a model of transformers")
        patches = _OF_PATCHES if config.front_end is None else ()
        for name in ("front_end", *patches, *_ARCHITECTURE):
            theirs, ours = _without_dropout(getattr(self.encoder, name)), _without_dropout(getattr(config, name))
            if theirs != ours:
                raise ValueError(f"{self.source}: its encoder.{name} is {theirs}, {whose} is {ours}")

    def check_decoder(self, config: DecoderConfig | TransformerDecoderConfig) -> None:
        """Refuse a configured decoder whose weights these are not; none at all are no mistake. Switches of training, such
        as dropout or the noise in hidden places, may differ.

        Raises:
            ValueError: naming the first setting that differs.
        """
        if self.decoder is None:
            return
        its = self.decoder_config or DecoderConfig()
        if type(its) is not type(config):
            raise ValueError(f"{self.source}: its decoder is made of {_parts(its)}, the configured one of {_parts(config)}")
        for name in _CONVOLUTIONS if isinstance(config, DecoderConfig) else _BLOCKS:
            theirs, ours = getattr(its, name), getattr(config, name)
            if theirs != ours:
                raise ValueError(f"{self.source}: its decoder.{name} is {theirs}, the configured one is {ours}")


def _parts(config: DecoderConfig | TransformerDecoderConfig) -> str:
    return "convolutions" if isinstance(config, DecoderConfig) else "transformer blocks"


def _without_dropout(setting: Any) -> Any:
    """The settings of a front-end but for its dropout, anything else as it is."""
    if isinstance(setting, FrontEndConfig) and any(field.name == "dropout" for field in fields(setting)):  # type: ignore[arg-type]
        return replace(setting, dropout=0.0)  # type: ignore[type-var]
    return setting


def one_of(weights: Any, part: Part) -> State:
    """The student or the teacher of what was read from a file.

    Raises:
        ValueError: if the file has no teacher.
    """
    state: State | None = weights.student if part == "student" else weights.teacher
    if state is None:
        raise ValueError(f"{weights.source} holds no {part}: set model.init_part to student, or ask for the part student")
    return state
