"""The model card that lies beside weights that are to be shared."""

from __future__ import annotations

from pathlib import Path

from sslam_lightning.checkpoints.verify import num_classes
from sslam_lightning.checkpoints.weights import Weights
from sslam_lightning.models import ImageConfig, TextConfig

_LISTED_CLASSES = 20
_A = {"audio": "a clip", "image": "an image", "text": "a text"}


def model_card(weights: Weights, load_from: str) -> str:
    """README.md of a model: what it is, how to use it (as ``load_from``), and what it was converted from."""
    config = weights.encoder
    kind = "classifier" if weights.head else "encoder"
    modality = _modality(weights)
    parts = [name for name in ("teacher", "decoder", "reconstruction", "head") if getattr(weights, name)]
    parameters = sum(tensor.numel() for tensor in weights.student.values())
    pipeline = f"{modality}-classification" if weights.head else "feature-extraction"
    patches = f"patches of {config.patch_size} x {config.patch_size}"
    takes = f"log_mels)  # (batch, frames, {config.num_mels}), frames a multiple of {config.patch_size}"
    reads = "vision transformer on log-mel patches"
    if config.front_end is not None:
        front_end = type(config.front_end).__name__.removesuffix("Config")
        patches, takes, reads = f"front-end {front_end}", "clips)", "transformer on the tokens of its front-end"
    lines = [
        "---",
        "library_name: sslam-lightning",
        f"pipeline_tag: {pipeline}",
        f"tags: [{modality}, self-supervised, {'sslam, eat' if modality == 'audio' else 'data2vec'}]",
        "---",
        "",
        f"# {modality.capitalize()} {kind}",
        "",
        f"A {reads}, of the SSLAM and EAT family: {config.depth} blocks of "
        f"width {config.dim}, {config.num_heads} heads, {patches}, "
        f"{parameters / 1e6:.1f} million parameters.",
        "",
        "```python",
        "import sslam_lightning",
        "",
        f'{kind} = sslam_lightning.load_{kind}("{load_from}")',
        f"output = {kind}({takes}",
        "```",
        "",
        f"- Parts: {', '.join(['student', *parts])}",
    ]
    if config.front_end is None or weights.features is not None:
        lines += [f"- Log-mels: {_features(weights)}"]
    if weights.head:
        number = "any number" if weights.multi_label else "exactly one"
        where = f"{number} of them in {_A[modality]}"
        lines += [f"- Classes: {num_classes(weights)}, {where}{_names(weights.class_names)}"]
    return "\n".join([*lines, f"- Converted from: {_origin(weights.source)}", ""])


def _modality(weights: Weights) -> str:
    """What the encoder reads, in the words of the Hub."""
    if isinstance(weights.encoder.front_end, ImageConfig):
        return "image"
    return "text" if isinstance(weights.encoder.front_end, TextConfig) else "audio"


def _origin(source: str) -> str:
    """The name of a file or folder without the way to it, which is nobody's business; a Hub id as it is."""
    return Path(source).resolve().name if Path(source).exists() else source


def _features(weights: Weights) -> str:
    if weights.features is None:
        return "its checkpoint does not say"
    return ", ".join(f"{name} {value}" for name, value in weights.features.items()) + f", resampled by {weights.resampler}"


def _names(names: tuple[str, ...]) -> str:
    if not names:
        return ""
    return f" ({', '.join(names[:_LISTED_CLASSES])}{', ...' if len(names) > _LISTED_CLASSES else ''})"
