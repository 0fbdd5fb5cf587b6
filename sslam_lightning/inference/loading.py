"""From a checkpoint of any kind to a model that takes sound."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from sslam_lightning.checkpoints import load_strictly, read_weights
from sslam_lightning.data.audio import ResamplerName
from sslam_lightning.features import LogMels
from sslam_lightning.inference.classes import class_names_of
from sslam_lightning.inference.model import AudioModel, Layer, Padding
from sslam_lightning.models import ClassificationHead, Encoder


def load(
    path: str | Path,
    part: Literal["student", "teacher"] = "student",
    padding: Padding | None = None,
    layer: Layer = -1,
    bf16: bool = False,
    features: Mapping[str, Any] | None = None,
) -> AudioModel:
    """Open a checkpoint as an :class:`AudioModel`: ``sslam_lightning.load("model")(waveform, sample_rate_hz)``.

    Args:
        path: a file or folder of any kind that ``sslam convert`` reads, or a Hugging Face Hub id.
        part: the checkpoint's ``student`` or its ``teacher`` (which has no head).
        padding, layer, bf16: see :class:`AudioModel`.
        features: settings of :class:`~sslam_lightning.features.LogMels` that the file does not tell, or tells wrongly. What
            neither says is as for AudioSet: 1024 frames, mean -4.268, standard deviation 4.569.

    Raises:
        ValueError, OSError: in one line, if it cannot be opened.
    """
    weights = read_weights(path)
    encoder = Encoder(weights.encoder)
    load_strictly(encoder, weights.part(part), part, weights.source)
    head = None
    if weights.head and part == "student":
        num_classes, dim = weights.head["linear.weight"].shape
        head = ClassificationHead(dim, num_classes, weights.pooling)
        load_strictly(head, weights.head, "head", weights.source)
    settings: dict[str, Any] = {"num_mels": encoder.config.num_mels, "patch_frames": encoder.config.patch_size}
    settings |= {**(weights.features or {}), **(features or {})}
    try:
        log_mels = LogMels(**settings)
    except TypeError as error:
        raise ValueError(
            f"features: {str(error).split('()')[-1].strip()}; known are {', '.join(vars(LogMels()))}"
        ) from None
    names = class_names_of(head.linear.out_features, weights.class_names) if head else ()
    resampler: ResamplerName = weights.resampler  # type: ignore[assignment]  # checked where it is used
    return AudioModel(encoder, head, log_mels, names, weights.multi_label, resampler, padding, layer, bf16)
