"""What a checkpoint offers, in this project's names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, Literal, NamedTuple

from torch import Tensor

from sslam_lightning.checkpoints.formats.transformers_settings import check_same_model, check_waveforms
from sslam_lightning.models import ConvDecoderConfig, DecoderConfig, EncoderConfig, HuggingFaceConfig
from sslam_lightning.models.heads import Pooling
from sslam_lightning.types import ResamplerName

State = dict[str, Tensor]
Part = Literal["student", "teacher"]
HeadOn = Literal["encoder", "decoder"]

_OF_PATCHES = ("in_channels", "num_mels", "patch_size")  # of the front-end that an encoder has if it has no other
# Settings that may differ: they are about training, or the shapes of weights tell them.
_FREE = ("weight_init", "zero_cls_token", "noise_std", "max_tokens", "mel_patches")


class Weights(NamedTuple):
    """The parts of a checkpoint; None where the file has none.

    ``encoder`` is a model of this project or, as :class:`HuggingFaceConfig`, one of Hugging Face transformers.
    ``teacher`` has the encoder's names, as ``student`` has, but may lack parts that it takes from the student, see
    :class:`sslam_lightning.models.Teacher`. ``contrast`` is MAE-AST's second read-out of the decoder.
    ``unused`` lists keys of the file that no part took.
    ``features`` are the keyword arguments of :class:`sslam_lightning.features.LogMels` that the model was trained with (of
    waveforms ``sample_rate_hz`` alone), None where the file does not say. ``multi_label``, ``pooling``, ``head_on`` (whose
    tokens it takes) and ``head_norm_eps`` are about the head, ``resampler`` about the data. ``images`` are the settings of
    a processor of images. ``pads_as_trained`` says that short clips are padded and the padding is seen.
    """

    source: str
    encoder: EncoderConfig | HuggingFaceConfig
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
    pooling: Pooling = "cls"
    resampler: ResamplerName = "torchaudio"
    contrast: State | None = None
    head_on: HeadOn = "encoder"
    head_norm_eps: float = 1e-6
    images: Mapping[str, Any] | None = None
    pads_as_trained: bool = False

    @property
    def own_encoder(self) -> EncoderConfig:
        """The configuration of an encoder of this project."""
        if isinstance(self.encoder, HuggingFaceConfig):
            raise ValueError(
                f"{self.source} holds a model of Hugging Face transformers: sslam convert --to transformers writes it"
            )
        return self.encoder

    @property
    def num_classes(self) -> int:
        """How many classes the head tells apart."""
        if self.head is None or "linear.weight" not in self.head or self.head["linear.weight"].ndim != 2:
            raise ValueError(f"{self.source} holds no classification head: it is a pre-trained model, not a fine-tuned one")
        return len(self.head["linear.weight"])

    def part(self, name: Part) -> State:
        """One of the encoders, whole: a teacher with the student's parts where it has none of its own."""
        state = self.student if name == "student" else self.teacher
        if state is None:
            raise ValueError(
                f"{self.source} holds no {name}: set model.init_encoder to student, or ask for the part student"
            )
        return {**self.student, **state}

    def check_architecture(self, config: EncoderConfig | HuggingFaceConfig, whose: str = "the configured one") -> None:
        """Refuse a configured encoder whose weights these are not. Switches of training, such as dropout, may differ.

        Raises:
            ValueError: naming the first setting that differs.
        """
        own = self.encoder
        if isinstance(own, HuggingFaceConfig) and isinstance(config, HuggingFaceConfig):
            check_same_model(own.settings, config.resolve(), self.source)
            check_waveforms(own.normalize_waveforms, config.normalize_waveforms, self.source)
        elif isinstance(own, HuggingFaceConfig):
            raise ValueError(
                f"{self.source} holds a {own.model} of transformers, the configured encoder is one of this project: name "
                "the model in model.hugging_face"
            )
        elif isinstance(config, HuggingFaceConfig):
            raise ValueError(f"{self.source} holds an encoder of this project, {whose} is a model of transformers")
        else:
            names = ["front_end", *([] if config.front_end else _OF_PATCHES)]
            names += [name for name in _settings(config) if name not in _OF_PATCHES]
            self._refuse_difference("encoder", own, config, names, whose)

    def check_decoder(self, config: DecoderConfig) -> None:
        """Refuse a configured decoder whose weights these are not; none at all are no mistake. Switches of training, such
        as dropout or the noise in hidden places, may differ.

        Raises:
            ValueError: naming the first setting that differs.
        """
        own = self.decoder_config
        if self.decoder is None or own is None:
            return
        if type(own) is not type(config):
            raise ValueError(
                f"{self.source}: its decoder is made of {_layers(own)}, the configured one of {_layers(config)}"
            )
        self._refuse_difference("decoder", own, config, _settings(config), "the configured one")

    def _refuse_difference(self, part: str, own: Any, config: Any, names: list[str], whose: str) -> None:
        for name in names:
            theirs, ours = (_without_dropout(getattr(each, name)) for each in (own, config))
            if theirs != ours:
                raise ValueError(f"{self.source}: its {part}.{name} is {theirs}, {whose} is {ours}")


def _settings(config: Any) -> list[str]:
    return [field.name for field in fields(config) if "drop" not in field.name and field.name not in _FREE]


def _without_dropout(setting: Any) -> Any:
    """The settings of a front-end but for its dropout, anything else as it is."""
    return replace(setting, dropout=0.0) if is_dataclass(setting) and hasattr(setting, "dropout") else setting  # type: ignore[type-var]


def _layers(config: DecoderConfig) -> str:
    return "convolutions" if isinstance(config, ConvDecoderConfig) else "transformer blocks"
