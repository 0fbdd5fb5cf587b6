"""Settings of fine-tuning: what goes together, and what the public code derives from others."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, Protocol

from sslam_lightning.augment import Mixup
from sslam_lightning.features import LogMels
from sslam_lightning.models import (
    ClassificationHead,
    ClipEncoder,
    EncoderConfig,
    HuggingFaceClipEncoder,
    LogMelInput,
    TokenReader,
    TransformerDecoder,
)

Criterion = Literal["cross_entropy", "binary_cross_entropy"]


class FinetuneSettings(Protocol):
    """What is looked at of a `FinetuneModule`."""

    encoder: ClipEncoder
    decoder: TransformerDecoder | None
    head: ClassificationHead
    features: LogMels | None
    mixup: Mixup | None
    num_classes: int
    multi_label: bool
    label_smoothing: float
    criterion: Criterion
    frozen_encoder: bool
    frozen_drop_path: bool

    @property
    def front_end(self) -> TokenReader: ...


def check_settings(module: FinetuneSettings) -> None:
    """Refuse settings out of their range, and those that would have no effect next to the others.

    Raises:
        ValueError: naming the setting.
    """
    _check_loss(module)
    front_end, kind = module.front_end, type(module.front_end).__name__
    if isinstance(module.encoder, HuggingFaceClipEncoder):
        if isinstance(front_end.takes, LogMelInput):
            front_end.takes.check(module.features)
        elif module.features is not None:
            raise ValueError("this model of transformers reads no log-mels: set model.features to null")
    for name in ("noise_and_roll", "spec_augment"):
        if getattr(module, name) and module.features is None:
            raise ValueError(f"{name} changes log-mels, which the {kind} front-end does not read: leave it out")
    if module.mixup and module.features is None and not front_end.num_values:
        raise ValueError(f"mixup blends log-mels or images, the {kind} front-end reads neither: set mixup to null")
    if module.decoder is not None and module.decoder.config.output_projection:
        raise ValueError("the head takes the decoder's tokens at its own width: set decoder.output_projection to false")
    if module.decoder is not None and module.head.pooling == "cls":
        raise ValueError("pooling: a decoder gives no CLS token: set model.pooling to mean or linear_softmax")
    if module.frozen_drop_path and not module.frozen_encoder:
        raise ValueError("frozen_drop_path has no effect on an encoder that learns: leave it out, or set frozen_encoder")


def _check_loss(module: FinetuneSettings) -> None:
    if not module.multi_label and module.num_classes < 2:
        raise ValueError(f"clips of exactly one class need at least two classes to tell apart, got {module.num_classes}")
    if not 0 <= module.label_smoothing < 1:
        raise ValueError(f"label_smoothing must lie in [0, 1), got {module.label_smoothing}")
    if module.criterion not in ("cross_entropy", "binary_cross_entropy"):
        raise ValueError(f"criterion must be cross_entropy or binary_cross_entropy, got {module.criterion!r}")
    if module.criterion == "cross_entropy" and module.multi_label:
        raise ValueError("criterion: cross_entropy takes clips of exactly one class, these may be of several: leave it out")


def check_divisor(bce_reduction: str, criterion: Criterion | None) -> None:
    """Refuse a divisor that does not exist, or not of the criterion that is asked for.

    A criterion that follows from the data takes the divisor that it has, so that one setting of the data is enough.

    Raises:
        ValueError: naming the setting.
    """
    if bce_reduction not in ("positives", "clips"):
        raise ValueError(f"bce_reduction must be positives or clips, got {bce_reduction!r}")
    if criterion == "cross_entropy" and bce_reduction == "positives":
        raise ValueError(
            "bce_reduction: positives has no effect on criterion: cross_entropy, which is divided by clips: set "
            "model.bce_reduction to clips"
        )


def with_drop_path_in_prenet(config: EncoderConfig) -> EncoderConfig:
    """The same encoder with drop path as EAT and data2vec 2.0 fine-tune it.

    The rates rise in a straight line over as many steps as there are main blocks. The prenet's blocks take the first of
    them; the main blocks start behind those and rise to the end.
    """
    if not config.prenet_depth or config.prenet_drop_path_start or config.prenet_drop_path_end:
        return config
    start, end, last = config.drop_path_start, config.drop_path_end, max(1, config.depth - 1)

    def rate(step: int) -> float:
        return start + (end - start) * min(step, last) / last

    return replace(
        config,
        drop_path_start=rate(config.prenet_depth),
        prenet_drop_path_start=rate(0),
        prenet_drop_path_end=rate(config.prenet_depth - 1),
    )
