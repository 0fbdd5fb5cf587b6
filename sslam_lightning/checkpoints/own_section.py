"""What our files say about a model beyond its weights, and what we add to other layouts so that nothing is lost in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from sslam_lightning.checkpoints.settings import as_kind, as_plain, read_class_names, read_dataclass, read_features
from sslam_lightning.checkpoints.weights import HeadOn, Weights
from sslam_lightning.models import EncoderConfig
from sslam_lightning.models.heads import Pooling
from sslam_lightning.types import ResamplerName

OWN_SECTION = "sslam_lightning"


class Description(NamedTuple):
    """Front-end, classes and training switches of a model; ``encoder`` None where a file does not say."""

    features: Mapping[str, Any] | None = None
    class_names: tuple[str, ...] = ()
    multi_label: bool = True
    pooling: Pooling = "clip_token"
    resampler: ResamplerName = "torchaudio"
    encoder: EncoderConfig | None = None
    head_on: HeadOn = "encoder"
    head_norm_eps: float = 1e-6

    def applied_to(self, weights: Weights) -> Weights:
        """The weights with this description.

        Raises:
            ValueError: if it is about an encoder of another architecture.
        """
        if self.encoder is not None:
            weights.check_architecture(self.encoder, "by its description it")
        described = self._asdict()
        return weights._replace(**{**described, "encoder": self.encoder or weights.encoder})


def write_description(weights: Weights) -> dict[str, Any]:
    """The section of a model, as plain data."""
    return {
        "encoder": as_plain(weights.encoder),
        "features": None if weights.features is None else dict(weights.features),
        "class_names": list(weights.class_names),
        "multi_label": weights.multi_label,
        "pooling": weights.pooling,
        "resampler": weights.resampler,
        "head_on": weights.head_on,
        "head_norm_eps": weights.head_norm_eps,
    }


def read_description(settings: Any, where: str) -> Description:
    """The section of a file.

    Raises:
        ValueError: naming the first setting that is not what it has to be.
    """
    if not isinstance(settings, Mapping):
        raise ValueError(f"{where} must be a table of settings, got {type(settings).__name__}")
    encoder = settings.get("encoder")
    return Description(
        read_features(settings.get("features"), f"{where}.features"),
        read_class_names(settings.get("class_names"), f"{where}.class_names"),
        as_kind(settings.get("multi_label", True), bool, f"{where}.multi_label"),
        as_kind(settings.get("pooling", "clip_token"), Pooling, f"{where}.pooling"),
        as_kind(settings.get("resampler", "torchaudio"), ResamplerName, f"{where}.resampler"),
        None if encoder is None else read_dataclass(EncoderConfig, encoder, f"{where}.encoder"),
        as_kind(settings.get("head_on", "encoder"), HeadOn, f"{where}.head_on"),
        as_kind(settings.get("head_norm_eps", 1e-6), float, f"{where}.head_norm_eps"),
    )
