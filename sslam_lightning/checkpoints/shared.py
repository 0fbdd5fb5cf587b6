"""Our form for sharing: all that a checkpoint knows of a model, as JSON and safetensors, and nothing of its training."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sslam_lightning.checkpoints.own_section import read_description, write_description
from sslam_lightning.checkpoints.settings import as_kind, read_decoder
from sslam_lightning.checkpoints.weights import State, Weights

FORMAT = "sslam_lightning"
_VERSION = 1
_ABOUT_THE_FILE = ("format", "version", "decoder")
_PARTS = ("student", "teacher", "decoder", "reconstruction", "head", "contrast")


def from_shared(config: Mapping[str, Any], state: State, source: str) -> Weights:
    """The weights of a folder in our form.

    Raises:
        ValueError: if its configuration is not one of ours, or of a later version.
    """
    version = as_kind(config.get("version"), int, f"{source}: config.json: version")
    if version > _VERSION:
        raise ValueError(f"{source} has version {version} of its form, this release knows {_VERSION}: install a newer one")
    described = read_description(config, f"{source}: config.json")
    if described.encoder is None:
        raise ValueError(f"{source}: its config.json has no encoder")
    parts: dict[str, State] = defaultdict(dict)
    for name, tensor in state.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = tensor
    decoder = config.get("decoder")
    weights = Weights(
        source,
        described.encoder,
        parts["student"],
        parts.get("teacher"),
        None if decoder is None else read_decoder(parts.get("decoder") or {}, decoder, f"{source}: config.json: decoder"),
        parts.get("decoder"),
        parts.get("reconstruction"),
        parts.get("head"),
        (
            *(name for name in state if name.partition(".")[0] not in _PARTS),
            *(f"config.json: {name[:80]}" for name in config if name not in {*described._fields, *_ABOUT_THE_FILE}),
        ),
        contrast=parts.get("contrast"),
    )
    return described.applied_to(weights)


def to_shared(weights: Weights) -> tuple[dict[str, Any], State]:
    """``config.json`` and all weights, each name behind that of its part."""
    config = {
        "format": FORMAT,
        "version": _VERSION,
        **write_description(weights),
        "decoder": asdict(weights.decoder_config) if weights.decoder_config else None,
    }
    state = {f"{part}.{name}": tensor for part in _PARTS for name, tensor in (getattr(weights, part) or {}).items()}
    return config, state
