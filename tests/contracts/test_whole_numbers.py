"""Whole numbers stay whole (U3): in every typed option of every command and class, and in every class of settings."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from itertools import product
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
from jsonargparse import ArgumentParser

import sslam_lightning
from sslam_lightning.cli import TOOLS
from sslam_lightning.features import LogMels
from sslam_lightning.masking import FlexibleInverseBlockMask
from sslam_lightning.models import EncoderConfig, WaveformConfig


@cache
def _classes() -> list[type]:
    """Of all modules that can be imported here; some are of extras."""
    found: list[type] = []
    for name in (module.name for module in pkgutil.walk_packages(sslam_lightning.__path__, "sslam_lightning.")):
        if name != "sslam_lightning.__main__":
            with suppress(ImportError):
                members = vars(importlib.import_module(name)).values()
                found += [kind for kind in members if isinstance(kind, type) and kind.__module__ == name]
    return found


def _commands(tools: Any = None) -> Iterator[Callable[..., Any]]:
    """Every function that is a command, those below others included."""
    for tool in (TOOLS if tools is None else tools).values():
        if isinstance(tool, dict):
            yield from _commands(tool)
        else:
            yield pkgutil.resolve_name(tool)


def _example(hint: Any, number: str) -> str | None:
    """A number as one writes it for an option of this type; None where it has no place."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any or hint is (float if "." in number else int):
        return number
    if origin in (Union, UnionType):
        return next((text for option in inner if (text := _example(option, number))), None)
    if not isinstance(origin, type):
        return None
    if issubclass(origin, Mapping):
        return f"{{a: {text}}}" if (text := _example(inner[1], number)) else None
    if issubclass(origin, tuple) and inner[-1] is not Ellipsis:
        texts = [_example(one, number) for one in inner]
        return f"[{', '.join(map(str, texts))}]" if all(texts) else None
    return f"[{text}]" if issubclass(origin, Sequence) and (text := _example(inner[0], number)) else None


def _numbers(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return [number for inner in value.values() for number in _numbers(inner)]
    return [number for inner in value for number in _numbers(inner)] if isinstance(value, (list, tuple)) else [value]


def _parsed(hint: Any, text: str) -> list[Any]:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--option", type=hint)
    return _numbers(parser.parse_args([f"--option={text}"]).option)


def _hints() -> dict[str, tuple[Any, str]]:
    """Every type of an option that takes whole numbers, by its text: the type, and one option that has it."""
    found: dict[str, tuple[Any, str]] = {}
    for command in _commands():
        for name, hint in get_type_hints(command).items():
            found.setdefault(str(hint), (hint, f"{command.__name__}.{name}"))
    for kind in _classes():
        with suppress(NameError):  # a type that only type checkers import
            for name, hint in get_type_hints(kind.__init__).items() if "__init__" in vars(kind) else ():
                found.setdefault(str(hint), (hint, f"{kind.__name__}.{name}"))
    return {text: told for text, told in found.items() if _example(told[0], "512")}


def test_every_typed_option_keeps_whole_numbers_whole() -> None:
    """U3: --features '{num_frames: 512}' was read as 512.0, as a float stood first in a union of types."""
    hints = _hints()
    assert {"<class 'int'>", "int | None", "dict[str, typing.Any] | None"} <= hints.keys()
    for hint, place in hints.values():
        numbers = _parsed(hint, _example(hint, "512") or "")
        assert 512 in numbers, f"{place}: {hint} makes {numbers} of 512"
        assert all(type(number) is int for number in numbers if number == 512), f"{place}: {hint} makes {numbers} of 512"
        if text := _example(hint, "6.5"):
            assert 6.5 in _parsed(hint, text), f"{place}: {hint} cannot hold 6.5"


@pytest.mark.parametrize("hint", [float | int, dict[str, float | int | str], list[float | int] | None, str | int])
def test_a_union_in_the_wrong_order_is_caught(hint: Any) -> None:
    numbers = _parsed(hint, _example(hint, "512") or "")
    assert [type(number) for number in numbers] != [int]


@pytest.mark.parametrize(
    "given", [["--features", "{num_frames: 512, mean: -6.6, std: 5.4}"], ["--features.num_frames=512"]]
)
@pytest.mark.parametrize("command", [one for one in _commands() if "features" in inspect.signature(one).parameters])
def test_log_mel_settings_on_the_command_line(command: Callable[..., Any], given: list[str]) -> None:
    """U3: the help's own example, of tag, embed, export and evaluate."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_function_arguments(command, skip={"inputs", "suite", "protocols", "seeds", "only", "out"}, as_group=False)
    features = parser.parse_args(given).features
    assert type(features["num_frames"]) is int
    assert LogMels(**features).num_frames == 512


def _settings() -> Iterator[tuple[type, list[str]]]:
    """Classes of settings, which are dataclasses that can be made without any, and their fields of whole numbers."""
    for kind in _classes():
        if is_dataclass(kind) and not inspect.isabstract(kind):
            hints, own = get_type_hints(kind), fields(kind)
            whole = [one.name for one in own if hints[one.name] in (int, int | None)]
            if whole and not any(one.default is one.default_factory is MISSING for one in own):
                yield kind, whole


def test_settings_refuse_fractions() -> None:
    """U3: LogMels took 512.0. The check is called by itself, as under pytest some constructors check types before it."""
    found = dict(_settings())
    assert {"LogMels", "EncoderConfig", "ChunkMask", "OptimizerConfig"} <= {kind.__name__ for kind in found}
    assert len(found) > 15
    for kind, names in found.items():
        assert hasattr(kind, "__post_init__"), f"{kind.__name__} checks nothing"
        for name, wrong in product(names, (512.0, 0.5, True, "512")):
            settings = kind()
            object.__setattr__(settings, name, wrong)
            with pytest.raises(ValueError, match=rf"^[\w.]+: {name} must be a whole number, got {wrong!r}$"):
                settings.__post_init__()


@pytest.mark.parametrize(
    ("settings", "name", "wrong"),
    [(FlexibleInverseBlockMask(), "shapes", ((2.0, 3),)), (WaveformConfig(), "layers", ((512, 10.0, 5),))],
)
def test_numbers_inside_of_tuples(settings: Any, name: str, wrong: Any) -> None:
    object.__setattr__(settings, name, wrong)
    with pytest.raises(ValueError, match=f"{name} must be whole numbers, got"):
        settings.__post_init__()


def test_settings_take_whole_numbers_of_numpy() -> None:
    import numpy as np

    assert LogMels(num_frames=np.int64(512)).num_frames == 512
    settings = EncoderConfig()
    object.__setattr__(settings, "dim", np.int32(16))
    settings.__post_init__()
