"""Settings from files: of the type that a name says, or one line that says what came."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass, replace
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from sslam_lightning.checkpoints.messages import shown
from sslam_lightning.class_names import check_class_names
from sslam_lightning.features import LogMels
from sslam_lightning.models import DecoderConfig, EncoderConfig, FrontEndConfig

T = TypeVar("T")

_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def as_table(settings: Any, where: str) -> Mapping[str, Any]:
    """``settings``, if they are a table; else a ValueError."""
    if not isinstance(settings, Mapping):
        raise ValueError(f"{where} must be a table of settings, got {shown(settings)}")
    return settings


def as_kind(value: Any, hint: Any, where: str) -> Any:
    """``value``, if it is of the type ``hint``: a bool, int, float, str, Literal, a tuple or dataclass of these, the
    settings of a front-end, or a union of one of them with None.

    Raises:
        ValueError: naming ``where`` it stands, what came and what was expected.
    """
    if get_origin(hint) in (Union, UnionType):
        options = get_args(hint)
        if value is None and NoneType in options:
            return None
        return as_kind(value, next(option for option in options if option is not NoneType), where)
    if get_origin(hint) is Literal:
        if not any(type(value) is type(option) and value == option for option in get_args(hint)):
            raise ValueError(f"{where} must be one of {', '.join(map(repr, get_args(hint)))}, got {shown(value)}")
        return value
    if get_origin(hint) is tuple:
        return _as_tuple(value, get_args(hint), where)
    if hint is FrontEndConfig:
        return read_choice(FrontEndConfig, value, where)
    if is_dataclass(hint):
        return read_dataclass(hint, value, where)  # type: ignore[arg-type]
    if hint not in _KINDS:
        raise ValueError(f"{where} cannot be read from a file: {hint} is no plain data")
    if hint is float and type(value) is int:
        value = float(value)
    if type(value) is not hint or (hint is float and not math.isfinite(value)):
        raise ValueError(f"{where} must be {_KINDS[hint]}, got {shown(value)}")
    return value


def _as_tuple(value: Any, hints: tuple[Any, ...], where: str) -> tuple[Any, ...]:
    """Plain data has no tuples: they come back as lists."""
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{where} must be a list, got {shown(value)}")
    if hints[-1] is Ellipsis:
        hints = (hints[0],) * len(value)
    if len(value) != len(hints):
        raise ValueError(f"{where} must be a list of {len(hints)}, got {len(value)}")
    return tuple(as_kind(item, hint, where) for item, hint in zip(value, hints, strict=True))


def read_dataclass(kind: type[T], settings: Any, where: str) -> T:
    """A dataclass from those of its fields that ``settings`` has; the others keep their defaults."""
    settings, hints = as_table(settings, where), get_type_hints(kind)
    names = [field.name for field in fields(kind) if field.name in settings]  # type: ignore[arg-type]
    values = {name: as_kind(settings[name], hints[name], f"{where}.{name}") for name in names}
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {str(error).removeprefix(f'{where}: ')}") from None


def read_choice(family: type[Any], settings: Any, where: str) -> Any:
    """The settings of a front-end or decoder: ``class_path`` names one that exists here, none is imported for a file."""
    name = settings.get("class_path") if isinstance(settings, Mapping) else settings
    known: dict[str, Any] = {each.__name__: each for each in family.__subclasses__() if is_dataclass(each)}
    kind = known.get(str(name).rpartition(".")[2])
    if kind is None:
        others = ", ".join(sorted(known))
        raise ValueError(f"{where}: {shown(name)} is not among {others}, and no class is imported because a file names it")
    return read_dataclass(kind, settings.get("init_args") or {}, where)


def read_decoder(settings: Any, encoder_dim: int, where: str) -> DecoderConfig:
    """The settings of a decoder, with its width as a number."""
    config = read_choice(DecoderConfig, settings, where)
    return replace(config, dim=config.dim or encoder_dim)


def as_plain(config: Any) -> dict[str, Any]:
    """A configuration as plain data that `read_dataclass` reads."""
    settings = asdict(config)
    if (front_end := getattr(config, "front_end", None)) is not None:
        settings["front_end"] = write_choice(front_end)
    return settings


def write_choice(config: Any) -> dict[str, Any]:
    """The settings of a front-end or decoder as plain data that `read_choice` reads."""
    return {"class_path": f"{type(config).__module__}.{type(config).__qualname__}", "init_args": asdict(config)}


def read_features(settings: Any, where: str) -> dict[str, Any] | None:
    """The keyword arguments of :class:`LogMels` among ``settings``, once it has accepted them; None if there are none."""
    if settings is None:
        return None
    features = read_dataclass(LogMels, settings, where)
    return {field.name: getattr(features, field.name) for field in fields(LogMels) if field.name in settings}


def features_with(own: Mapping[str, Any], given: Mapping[str, Any]) -> LogMels:
    """A model's log-mels with settings that somebody gives over its own; extremes are those of a clip, whatever it is
    batched with."""
    refuse_unknown_features(given)
    return read_dataclass(LogMels, {**own, "extremes": "clip", **given}, "features")


def check_normalization(features: Mapping[str, Any], source: str) -> None:
    """Raise ValueError unless settings of :class:`LogMels` say the mean and standard deviation that ``source`` expects."""
    if features.get("kind", "kaldi") == "kaldi" and not {"mean", "std"} <= features.keys():
        raise ValueError(
            f"{source} does not say which mean and std its log-mels were normalized by: set features, for example "
            "'{mean: -4.268, std: 4.569}' of AudioSet"
        )


def refuse_unknown_features(given: Mapping[str, Any]) -> None:
    """Raise ValueError for what a model that is loaded would pass over in silence: a name that is no setting of
    :class:`LogMels`, and extremes of a batch, as its results do not depend on what a clip is batched with."""
    known = [field.name for field in fields(LogMels)]
    if unknown := next((name for name in given if name not in known), None):
        raise ValueError(f"features: there is no setting {unknown}; known are {', '.join(known)}")
    if given.get("extremes", "clip") != "clip":
        raise ValueError(f"features: extremes must be clip outside of training: leave it out, got {given['extremes']!r}")


def front_end_of(num_frames: Any, encoder: EncoderConfig, where: str, **more: float) -> dict[str, Any]:
    """The features of an encoder that other people trained on ``num_frames``; they cut what does not fill a patch."""
    frames = as_kind(num_frames, int, where)
    whole = frames - frames % encoder.patch_size
    settings = {"num_frames": whole, **more, "num_mels": encoder.num_mels, "patch_frames": encoder.patch_size}
    return read_features(settings, where) or {}


def read_class_names(names: Any, where: str) -> tuple[str, ...]:
    """A list of names, one a class; none where it is missing, or where transformers made them up ("LABEL_0")."""
    if names is None:
        return ()
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{where} must be a list of names, got {shown(names)}")
    check_class_names(names, where)
    return () if list(names) == [f"LABEL_{number}" for number in range(len(names))] else tuple(names)
