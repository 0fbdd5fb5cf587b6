"""What the parsers of the command line complain about, in one line that names what came and what was expected."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from dataclasses import is_dataclass
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args, get_type_hints

from sslam_lightning.parser_complaints import one_line

_TOP_LEVEL = ("config", "ckpt_path", "data", "model", "print_config", "seed_everything", "trainer")


def explain(message: str, argv: Sequence[str]) -> str:
    """A parser's complaint about ``argv`` in the user's terms: the key as it was typed, the file, the nearest real name."""
    line = one_line(message)
    if match := re.search(r'"config": File does not exist: (\S+)', line):
        return f"there is no configuration file {match[1]}"
    if line.startswith("Problems parsing config"):
        return f"{_unreadable_config(argv)}{line}"
    if re.search(r"arguments are required: \w+\.model", line):
        return "no model is named: give a recipe in --config, or a class in --model"
    if match := re.search(r"option '([\w.]+)'|Option '([\w.]+)' is not|unrecognized arguments: --([\w.]+)", line):
        name = next(group for group in match.groups() if group)
        typed = next((key for key in _keys(argv) if key.split(".")[-1] == name.split(".")[-1]), name)
        return f"there is no setting {typed}{_nearest_setting(typed)}"
    if match := re.search(r'key "([\w.]+)":.*import path string: (\S+)', line):
        return f"{match[1]}: there is no class {match[2]}{nearest(match[2].split('.')[-1], _classes())}"
    return line


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that ``name`` may have meant, as the end of a message."""
    if name in (known := set(known)):
        return " in this place"  # it is another class's
    found = get_close_matches(name, sorted(known), n=1)
    return f": did you mean {found[0]}?" if found else ""


def _nearest_setting(key: str) -> str:
    """The key with its first unknown part mended, as the end of a message."""
    known, parts = {*_TOP_LEVEL, *_settings()}, key.split(".")
    unknown = next((place for place, part in enumerate(parts) if part not in known), None)
    if unknown is None:
        return " in this place"  # it is another class's
    found = get_close_matches(parts[unknown], sorted(known if unknown or len(parts) == 1 else _TOP_LEVEL), n=1)
    return f": did you mean {'.'.join([*parts[:unknown], *found, *parts[unknown + 1 :]])}?" if found else ""


def _keys(argv: Sequence[str]) -> list[str]:
    """The options of a command line as dotted keys."""
    return [word.removeprefix("--").split("=")[0].rstrip("+") for word in argv if word.startswith("--")]


def _unreadable_config(argv: Sequence[str]) -> str:
    """The first configuration file that is no YAML, as the beginning of a message."""
    import yaml

    words = [part for word in argv for part in word.split("=", 1)]
    for flag, path in pairwise(words):
        if flag in ("-c", "--config") and Path(path).is_file():
            try:
                yaml.safe_load(Path(path).read_text())
            except yaml.YAMLError:
                return f"{path}: "
    return ""


def _families() -> list[Any]:
    from sslam_lightning import data, masking, mixing, objectives, training

    return [getattr(family, name) for family in (training, data, masking, mixing, objectives) for name in family.__all__]


def _classes() -> Iterable[str]:
    return (family.__name__ for family in _families())


def _settings() -> Iterable[str]:
    """Every name that a recipe may hold: of the trainer, of all classes, and of the settings inside them."""
    from lightning.pytorch import Trainer

    from sslam_lightning.data.module import AudioDataModule

    yield from inspect.signature(Trainer).parameters
    seen: set[type] = set()
    waiting: list[Any] = [AudioDataModule, *_families()]
    while waiting:
        kind = waiting.pop()
        ours = isinstance(kind, type) and kind.__module__.startswith("sslam_lightning") and "__init__" in vars(kind)
        if kind in seen or not ours:
            continue
        seen.add(kind)
        yield from inspect.signature(kind).parameters
        annotated = kind if is_dataclass(kind) else vars(kind)["__init__"]
        for hint in get_type_hints(annotated).values():
            waiting += (hint, *get_args(hint))
