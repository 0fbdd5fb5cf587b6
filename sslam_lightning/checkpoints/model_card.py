"""The model card that lies beside weights that are to be shared."""

from __future__ import annotations

from pathlib import Path

from sslam_lightning.checkpoints.weights import Weights
from sslam_lightning.models import ImageConfig, TextConfig

_LISTED_CLASSES = 20
_A = {"audio": "a clip", "image": "an image", "text": "a text"}
_CARD = """\
---
library_name: sslam-lightning
pipeline_tag: {pipeline}
tags: [{modality}, self-supervised, {tags}]
---

# {title} {kind}

A {reads}, of the SSLAM and EAT family: {depth} blocks of width {dim}, {num_heads} heads, {patches}, \
{millions:.1f} million parameters.

```python
import sslam_lightning

{kind} = sslam_lightning.load_{kind}("{load_from}")
output = {kind}({takes}
```

{facts}
"""


def model_card(weights: Weights, load_from: str) -> str:
    """README.md of a model: what it is, how to use it (as ``load_from``), and what it was converted from."""
    config = weights.own_encoder
    kinds = {ImageConfig: "image", TextConfig: "text"}
    modality = next((name for kind, name in kinds.items() if isinstance(config.front_end, kind)), "audio")
    if config.front_end is None:
        reads, patches = "vision transformer on log-mel patches", f"patches of {config.patch_size} x {config.patch_size}"
        takes = f"log_mels)  # (batch, frames, {config.num_mels}), frames a multiple of {config.patch_size}"
    else:
        front_end = type(config.front_end).__name__.removesuffix("Config")
        reads, patches, takes = "transformer on the tokens of its front-end", f"front-end {front_end}", "clips)"
    parts = ["student", *(name for name in ("teacher", "decoder", "reconstruction", "head") if getattr(weights, name))]
    facts = [f"Parts: {', '.join(parts)}"]
    if config.front_end is None or weights.features is not None:
        facts.append(f"Log-mels: {_features(weights)}")
    if weights.head:
        number = "any number" if weights.multi_label else "exactly one"
        facts.append(f"Classes: {weights.num_classes}, {number} of them in {_A[modality]}{_names(weights.class_names)}")
    return _CARD.format(
        **{"modality": modality, "title": modality.capitalize(), "kind": "classifier" if weights.head else "encoder"},
        **{"reads": reads, "patches": patches, "takes": takes, "load_from": load_from},
        **{"depth": config.depth, "dim": config.dim, "num_heads": config.num_heads},
        pipeline=f"{modality}-classification" if weights.head else "feature-extraction",
        tags="sslam, eat" if modality == "audio" else "data2vec",
        millions=sum(tensor.numel() for tensor in weights.student.values()) / 1e6,
        facts="\n".join(f"- {fact}" for fact in [*facts, f"Converted from: {_origin(weights.source)}"]),
    )


def _origin(source: str) -> str:
    """The name of a file or folder without the way to it, which is nobody's business; a Hub id as it is."""
    return Path(source).resolve().name if Path(source).exists() else source


def _features(weights: Weights) -> str:
    if weights.features is None:
        return "its checkpoint does not say"
    return ", ".join(f"{name} {value}" for name, value in weights.features.items()) + f", resampled by {weights.resampler}"


def _names(names: tuple[str, ...]) -> str:
    more = ", ..." if len(names) > _LISTED_CLASSES else ""
    return f" ({', '.join(names[:_LISTED_CLASSES])}{more})" if names else ""
