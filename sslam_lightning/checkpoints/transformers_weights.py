"""What a checkpoint offers of a model of Hugging Face transformers, beside what :class:`Weights` is for our own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from sslam_lightning.checkpoints.lightning import CONFIG_KEY, NO_WEIGHTS
from sslam_lightning.checkpoints.settings import as_kind, read_class_names, read_features, read_state
from sslam_lightning.checkpoints.strictly import check_names_and_shapes
from sslam_lightning.checkpoints.transformers_settings import check_same_model, refusal
from sslam_lightning.checkpoints.weights import HeadOn, Part, State, one_of
from sslam_lightning.models import EncoderConfig, HuggingFaceClipEncoder, HuggingFaceConfig
from sslam_lightning.models.heads import Pooling
from sslam_lightning.types import ResamplerName

PREFIX = "model."  # of the model's weights in its encoder
_STUDENT, _TEACHER, _TUNED, _HEAD = "student.model.", "teacher.encoder.model.", "encoder.model.", "head."


@dataclass(frozen=True)
class TransformersWeights:
    """The models of a checkpoint, by transformers' own names, and what the file says about the other parts.

    ``config`` is what a ``config.json`` holds. ``features`` and all behind it mean what they mean in :class:`Weights`; of a
    model of waveforms ``features`` are ``sample_rate_hz`` alone. ``images`` are the settings of a processor of images.
    ``pads_as_trained`` tells that short clips are padded and the padding is seen.
    """

    source: str
    config: Mapping[str, Any]
    student: State
    teacher: State | None = None
    head: State | None = None
    unused: tuple[str, ...] = ()
    token_module: str | None = None
    features: Mapping[str, Any] | None = None
    class_names: tuple[str, ...] = ()
    multi_label: bool = True
    pooling: Pooling = "mean"
    resampler: ResamplerName = "torchaudio"
    head_norm_eps: float = 1e-6
    normalize_waveforms: bool = True
    cls_pooling: bool = False
    images: Mapping[str, Any] | None = None
    pads_as_trained: bool = False

    decoder: ClassVar[None] = None
    decoder_config: ClassVar[None] = None
    head_on: ClassVar[HeadOn] = "encoder"

    @property
    def encoder(self) -> HuggingFaceConfig:
        """The model, told by its whole configuration."""
        return HuggingFaceConfig(
            self.config["model_type"], dict(self.config), self.token_module, self.normalize_waveforms, self.cls_pooling
        )

    def own(self, part: Part) -> State:
        """One of the models by its own names.

        Raises:
            ValueError: if the file has no teacher.
        """
        return one_of(self, part)

    def part(self, name: Part) -> State:
        """One of the models by the names that it has in a :class:`HuggingFaceClipEncoder`; raises as :meth:`own`."""
        return {f"{PREFIX}{key}": tensor for key, tensor in self.own(name).items()}

    def new_encoder(self) -> HuggingFaceClipEncoder:
        """The encoder, with fresh weights.

        Raises:
            ImportError: transformers is missing.
            ValueError: if it makes no such model, or one of another size than the weights.
        """
        try:
            with torch.device("meta"):  # where shapes cost nothing, however large a file claims them to be
                claimed = HuggingFaceClipEncoder(self.encoder).state_dict()
        except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, ArithmeticError) as error:
            raise refusal(self.source, error) from None
        check_names_and_shapes(claimed, self.part("student"), f"{self.source}: student.")
        return HuggingFaceClipEncoder(self.encoder)

    def check_architecture(self, config: EncoderConfig | HuggingFaceConfig) -> None:
        """Refuse a configured encoder whose weights these are not. Switches of training, such as dropout, may differ.

        Raises:
            ValueError: naming the first setting that differs.
        """
        if isinstance(config, EncoderConfig):
            kind = self.config["model_type"]
            raise ValueError(
                f"{self.source} holds a {kind} of transformers, the configured encoder is one of this project: name the "
                "model in model.hugging_face"
            )
        check_same_model(self.config, config.resolve(), self.source)
        check_waveforms(self.normalize_waveforms, config.normalize_waveforms, self.source)


def check_waveforms(theirs: bool, ours: bool, source: str) -> None:
    """Refuse a configured encoder that normalizes waveforms where ``source`` does not, or the other way round.

    Raises:
        ValueError: naming the setting.
    """
    if theirs != ours:
        raise ValueError(
            f"{source} has normalize_waveforms (do_normalize) = {theirs}, the configured encoder {ours}: set "
            f"normalize_waveforms of the encoder to {str(theirs).lower()}"
        )


def from_transformers_checkpoint(content: Mapping[str, Any], source: str, max_bytes: int | None) -> TransformersWeights:
    """The models in a checkpoint of ``Data2Vec1Module``, or of a ``FinetuneModule`` on one of them.

    Raises:
        ValueError: if it holds none, or what it says about them is not what it has to be.
    """
    config = content.get(CONFIG_KEY)
    if not isinstance(config, Mapping) or not isinstance(config.get("model_type"), str):
        raise ValueError(f"{source} holds no model of transformers: it is no checkpoint of Data2Vec1Module")
    state = read_state(content.get("state_dict") or {}, f"{source}: state_dict", max_bytes)
    settings, where = content.get("hyper_parameters") or {}, f"{source}: hyper_parameters"
    if not isinstance(settings, Mapping):
        raise ValueError(f"{where} must be a table of settings, got {type(settings).__name__}")
    encoder = settings.get("hugging_face") or settings.get("encoder")
    encoder = encoder if isinstance(encoder, Mapping) else {}
    head = _part(state, _HEAD)
    taken = (_STUDENT, _TEACHER, _TUNED, *((_HEAD,) if head else ()))
    return TransformersWeights(
        source,
        config,
        _part(state, _STUDENT) or _part(state, _TUNED) or {},
        _part(state, _TEACHER),
        head,
        tuple(name for name in state if not name.startswith((*taken, *NO_WEIGHTS))),
        as_kind(encoder.get("token_module"), str | None, f"{where}: token_module"),
        read_features(settings.get("features"), f"{where}.features"),
        read_class_names(settings.get("class_names"), f"{where}.class_names") if head else (),
        as_kind(settings.get("multi_label", True), bool, f"{where}.multi_label"),
        as_kind(settings.get("pooling", "mean"), Pooling, f"{where}.pooling"),
        as_kind(settings.get("resampler", "torchaudio"), ResamplerName, f"{where}.resampler"),
        normalize_waveforms=as_kind(encoder.get("normalize_waveforms", True), bool, f"{where}: normalize_waveforms"),
        cls_pooling=as_kind(encoder.get("cls_pooling", False), bool, f"{where}: cls_pooling"),
    )


def _part(state: State, prefix: str) -> State | None:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)} or None
