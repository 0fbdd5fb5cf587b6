"""What the parsers of the command line complain about, in one line that names what came and what was expected."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

import yaml

from sslam_lightning.cli.arguments import arguments_of, is_known
from sslam_lightning.cli.command_line import CommandLine
from sslam_lightning.cli.configs import config_folder
from sslam_lightning.cli.nearest_setting import families, nearest_setting
from sslam_lightning.parser_complaints import key_of, one_line, unfit_value

_UNKNOWN = r"(?:Group '([\w.]+)' does not accept )?[Oo]ption '([\w.]+)'|unrecognized arguments: --([\w.]+)"


def explain(message: str, given: CommandLine) -> str:
    """A parser's complaint in the user's terms: the whole key, the file it stands in, the nearest real name.

    Args:
        message: of jsonargparse.
        given: what it was about.
    """
    line = one_line(message)
    if match := re.search(r"\"config\": File does not exist: '(.+)'", line):
        return f"there is no configuration file '{match[1]}'{_nearest_file(Path(match[1]), given.folder)}"
    if match := re.search(r"\"config\": Path is not a file: '(.+)'", line):
        return f"'{match[1]}' is a folder, where a configuration file is expected"
    if line.startswith(("Problems parsing config", "Unexpected config")):
        return _unreadable_config(given, line) or line
    if match := re.search(r"arguments are required: (?:\w+\.)?(model|data)\b", line):
        return f"no {match[1]} is named: give a recipe in --config, or a class in --{match[1]}"
    if match := re.search(r"NestedArg\(key='(\w+)'", message):
        key = given.place(match[1]).key
        return f"{key} is set before a class is named that has it: give a recipe in --config first"
    unknown = re.search(_UNKNOWN, line)
    overlay = given.overlay_without_recipe() if unknown or "Not a valid subclass of AudioModule" in line else None
    if overlay:
        return f"{overlay} is to be laid over a recipe, which names the model: --config RECIPE --config {overlay}"
    if unknown:
        place = given.place(".".join(part for part in unknown.groups() if part))
        where = f"{place.file}: " if place.file else ""
        return f"{where}there is no setting {place.key}{_nearest_setting(place.key, given)}"
    return _unfit(message, line, given) or line


def _unfit(message: str, line: str, given: CommandLine) -> str | None:
    """What is wrong with a value, or with a class or the settings in its place; None where it is about something else."""
    came = re.search(r"(?:Given|Got) value: ?(.*)", message)
    value = came[1] if came else None
    place = given.place(key_of(message) or "", value)
    if match := re.search(r"import path string: (\S+)|class_path '(\S+)': module .* has no attribute", line):
        name = match[1] or match[2]
        place = given.place(key_of(message) or "")
        return f"{place}: there is no class {name}{nearest(name.split('.')[-1], _classes())}"
    if match := re.search(r"class_path '(\S+)': (No module named .*)", line):
        return f"{place} cannot be {match[1]}: {match[2]}"
    if match := re.search(r"Import path ?(\S*) does not correspond to a subclass of (\w+)", line):
        return f"{place}: {match[1] or value} is no {match[2]}"
    if match := re.search(r"class_path '(\S+)': 'NoneType' object has no attribute 'keys'", line):
        return f"{place}: the init_args of {match[1]} are empty: leave them out, or give one"
    if "Not a valid subclass of" in line:
        return f"{place} must be a class with its settings (class_path, init_args), got {value}"
    if match := re.search(r"Unable to load config '(.+?)'", line):
        place = given.place(key_of(message) or "", match[1])
        return f"{place} has settings of its own ({place.key}.NAME), got {match[1]}"
    if value == "None" and "<class 'NoneType'>" in message and not place.file and "." in place.key:
        parent, _, name = place.key.rpartition(".")
        return f"{place} can be null in a file, or as --{parent} '{{{name}: null}}'"
    return unfit_value(message, str(place))


def nearest(name: str, known: Iterable[str], prefix: str = "") -> str:
    """The known name that ``name`` may have meant, as the end of a message; ``prefix`` goes before it there."""
    if name in (known := set(known)):
        return " in this place"  # it is another class's
    found = get_close_matches(name, sorted(known), n=1)
    return f": did you mean {prefix}{found[0]}?" if found else ""


def _nearest_setting(key: str, given: CommandLine) -> str:
    """What a key may have meant, as the end of a message."""
    if {*key.split(".")} <= {"class_path", "init_args", "trainer", "model", "data", *_settings()}:
        return " in this place"  # it is another class's
    found = nearest_setting(key, given)
    return f": did you mean {found}?" if found else ""


def _unreadable_config(given: CommandLine, line: str) -> str | None:
    """What is wrong with the first file that has no settings to read, in YAML's case the parser's line; None where all
    have."""
    for name, content in given.files():
        if isinstance(content, yaml.YAMLError):
            return f"{name}: {line}"
        if isinstance(content, UnicodeDecodeError):
            return f"{name} is no text, where a configuration file (YAML) is expected"
        if not isinstance(content, dict):
            found = "nothing" if content is None else repr(content)[:60]
            return f"{name} holds no settings (trainer, data, model), but {found}"
    return None


def _nearest_file(path: Path, folder: Path) -> str:
    """The file beside ``path`` or the recipe of the project that it may have meant, as the end of a message."""
    beside = {file.stem: file for file in path.parent.glob("*.y*ml")}
    recipes = {str(file.relative_to(config_folder()).with_suffix("")): file for file in config_folder().rglob("*.yaml")}
    for name, known in ((path.stem, beside), ("/".join([*path.parts[-2:-1], path.stem]), recipes)):
        if found := get_close_matches(name, sorted(known), n=1, cutoff=0.75):
            file = known[found[0]]
            return f": did you mean {file.relative_to(folder) if file.is_relative_to(folder) else file}?"
    return ""


def _classes() -> Iterable[str]:
    return (kind.__name__ for kind in (*families(), *_lightnings()))


def _lightnings() -> list[Any]:
    """Lightning's own classes that a recipe may name."""
    from lightning.pytorch import callbacks, loggers

    return [getattr(family, name) for family in (callbacks, loggers) for name in family.__all__]


def _settings() -> Iterable[str]:
    """Every name that a recipe may hold: of the trainer and its parts, of all classes, and of the settings inside them."""
    from lightning.pytorch import Trainer

    from sslam_lightning.data.module import AudioDataModule

    for kind in _lightnings():
        yield from inspect.signature(kind).parameters
    seen: set[type] = set()
    waiting: list[Any] = [Trainer, AudioDataModule, *families()]
    while waiting:
        kind = waiting.pop()
        if is_known(kind) and kind not in seen:
            seen.add(kind)
            arguments = arguments_of(kind)
            yield from arguments
            for hint, _ in arguments.values():
                waiting += (hint, *get_args(hint))
