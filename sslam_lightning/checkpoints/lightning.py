"""The names of this project's own Lightning checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from sslam_lightning.checkpoints.weights import State, Weights
from sslam_lightning.models import (
    ConvPositionsConfig,
    DecoderConfig,
    EncoderConfig,
    FrontEndConfig,
    TransformerDecoderConfig,
)


def from_lightning(checkpoint: Mapping[str, Any], source: str) -> Weights:
    """Weights and configuration of a ``PretrainModule`` or ``FinetuneModule`` checkpoint.

    Raises:
        ValueError: if the file is another project's.
    """
    state: State = checkpoint.get("state_dict") or {}
    settings = checkpoint.get("hyper_parameters") or {}
    student = _part(state, "student.") or _part(state, "encoder.") or {}
    known = isinstance(settings, Mapping) and isinstance(settings.get("encoder"), (Mapping, EncoderConfig))
    if "blocks.0.mlp.fc1.weight" not in student or not known:
        raise ValueError(f"{source} is a Lightning checkpoint, but not of this project: it holds no encoder")
    decoder = _part(state, "decoder.")
    of_transformer = "decoder.mask_token" in state
    taken = ("student.", "encoder.", "teacher.encoder.", "decoder.", "reconstruction_head.", "contrast_head.", "head.")
    return Weights(
        source,
        _config(EncoderConfig, settings["encoder"], source),
        student,
        _part(state, "teacher.encoder."),
        _decoder_config(settings, of_transformer, source) if decoder else None,
        decoder,
        _part(state, "reconstruction_head."),
        _part(state, "head."),
        tuple(key for key in state if not key.startswith(taken)),
        _part(state, "contrast_head."),
    )


def _part(state: State, prefix: str) -> State | None:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)} or None


def _decoder_config(
    settings: Mapping[str, Any], of_transformer: bool, source: str
) -> DecoderConfig | TransformerDecoderConfig:
    if not of_transformer:
        return _config(DecoderConfig, settings.get("decoder") or {}, source)
    # MAE-AST has no other decoder; for data2vec's modules it takes the convolutional one's place.
    theirs = settings.get("transformer_decoder") or settings.get("decoder") or {}
    return _config(TransformerDecoderConfig, theirs, source)


def _config(kind: type, settings: Any, source: str) -> Any:
    if isinstance(settings, kind):
        return settings
    given = {f.name: _frozen(settings[f.name]) for f in fields(kind) if f.name in settings}
    if isinstance(positions := given.get("conv_positions"), Mapping):
        given["conv_positions"] = _config(ConvPositionsConfig, positions, source)
    if isinstance(front_end := given.get("front_end"), Mapping):
        given["front_end"] = _front_end(front_end, source)
    return kind(**given)


def _front_end(settings: Mapping[str, Any], source: str) -> FrontEndConfig:
    """A file names the class of its front-end; only classes that are loaded already are taken, none is imported for it."""
    name = str(settings.get("class_path")).rpartition(".")[2]
    known = {kind.__name__: kind for kind in FrontEndConfig.__subclasses__()}
    if name not in known:
        raise ValueError(f"{source}: its front-end {name} is not among {', '.join(sorted(known))}")
    return _config(known[name], settings.get("init_args") or {}, source)


def _frozen(value: Any) -> Any:
    """Plain data has no tuples: they come back as lists."""
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
