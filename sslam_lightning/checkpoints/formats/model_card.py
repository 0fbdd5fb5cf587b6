"""The model card that lies beside weights that are to be shared."""

from __future__ import annotations

from pathlib import Path

from sslam_lightning.checkpoints.weights import Weights
from sslam_lightning.models import ImageConfig, TextConfig

_LISTED_CLASSES = 20
_A = {"audio": "a clip", "image": "an image", "text": "a text"}
_TAGS = {"audio": "sslam, eat", "image": "data2vec", "text": "data2vec"}


def model_card(weights: Weights, load_from: str) -> str:
    """README.md of a model: what it is, how to use it (as ``load_from``), and what it was converted from."""
    config, kind = weights.own_encoder, "classifier" if weights.head else "encoder"
    kinds = {ImageConfig: "image", TextConfig: "text"}
    modality = next((name for front_end, name in kinds.items() if isinstance(config.front_end, front_end)), "audio")
    if config.front_end is None:
        reads, patches = "vision transformer on log-mel patches", f"patches of {config.patch_size} x {config.patch_size}"
        takes = f"log_mels)  # (batch, frames, {config.num_mels}), frames a multiple of {config.patch_size}"
    else:
        patches = f"front-end {type(config.front_end).__name__.removesuffix('Config')}"
        reads, takes = "transformer on the tokens of its front-end", "clips)"
    parameters = sum(tensor.numel() for tensor in weights.student.values())
    return f"""\
---
library_name: sslam-lightning
pipeline_tag: {f"{modality}-classification" if weights.head else "feature-extraction"}
tags: [{modality}, self-supervised, {_TAGS[modality]}]
---

# {modality.capitalize()} {kind}

A {reads}, of the SSLAM and EAT family: {config.depth} blocks of width {config.dim}, {config.num_heads} heads, {patches}, \
{parameters / 1e6:.1f} million parameters.

```python
import sslam_lightning

{kind} = sslam_lightning.load_{kind}("{load_from}")
output = {kind}({takes}
```

{_facts(weights, modality)}
"""


def _facts(weights: Weights, modality: str) -> str:
    parts = ["student", *(name for name in ("teacher", "decoder", "reconstruction", "head") if getattr(weights, name))]
    facts = [f"Parts: {', '.join(parts)}"]
    if weights.features is not None:
        features = ", ".join(f"{name} {value}" for name, value in weights.features.items())
        facts.append(f"Log-mels: {features}, resampled by {weights.resampler}")
    elif weights.own_encoder.front_end is None:
        facts.append("Log-mels: its checkpoint does not say")
    if weights.head:
        number, names = "any number" if weights.multi_label else "exactly one", weights.class_names
        listed = ", ".join([*names[:_LISTED_CLASSES], *(["..."] if len(names) > _LISTED_CLASSES else [])])
        facts.append(f"Classes: {weights.num_classes}, {number} of them in {_A[modality]}{listed and f' ({listed})'}")
    # The name of a file or folder without the way to it, which is nobody's business; a Hub id as it is.
    origin = Path(weights.source).resolve().name if Path(weights.source).exists() else weights.source
    return "\n".join(f"- {fact}" for fact in [*facts, f"Converted from: {origin}"])
