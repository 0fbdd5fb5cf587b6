"""Parsers whose errors are one line, with the name that a misspelt one may have meant."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections import abc
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, NoReturn, get_args, get_origin, get_type_hints

from docstring_parser import parse as parse_docstring
from jsonargparse import ActionConfigFile, ArgumentParser

from sslam_lightning.cli.parse_errors import one_line
from sslam_lightning.runtime.configs import config_folder

_UNKNOWN_SETTING = re.compile(
    r"(?:Group '([\w.]+)' does not accept )?[Oo]ption '([\w.]+)'|unrecognized arguments: --([\w.]+)"
)
_UNKNOWN_CLASS = re.compile(r"import path string: ([\w.]+)|has no attribute '(\w+)'")
_MISSING_FILE = re.compile(r"File does not exist: '(.+)'")
_CLASSES_IN = (
    "sslam_lightning.training",
    "sslam_lightning.data",
    "sslam_lightning.masking",
    "sslam_lightning.mixing",
    "sslam_lightning.losses",
    "sslam_lightning.training.callbacks",
    "sslam_lightning.training.run.loggers",
    "lightning.pytorch.callbacks",
    "lightning.pytorch.loggers",
)


class OneLineParser(ArgumentParser):
    """Takes options by their whole names, and leaves with one line and code 2 where something is wrong."""

    command: ClassVar[str] = "sslam"  # whose help messages point to; classes in a configuration have parsers of their own
    config_file: ClassVar[str | None] = None  # the one that is being read

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{**options, "allow_abbrev": False})  # or --trainer.max_step would be max_steps

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print what is wrong, with the name that may have been meant and the command whose help tells more."""
        line = one_line(message)
        where = f"{self.config_file}: " if self.config_file else ""
        print(f"sslam: error: {where}{line}{self._did_you_mean(line)} (see {self.command} --help)", file=sys.stderr)
        sys.exit(2)

    def _did_you_mean(self, line: str) -> str:
        if match := _MISSING_FILE.search(line):
            return _nearest_file(Path(match[1]))
        if match := _UNKNOWN_CLASS.search(line):
            packages = map(import_module, _CLASSES_IN)
            known = (name for package in packages for name in getattr(package, "__all__", dir(package)))
            return _nearest(match[match.lastindex or 0].strip(".").rpartition(".")[2], known)
        if match := _UNKNOWN_SETTING.search(line):
            known = (action.dest for action in self._actions if not action.dest.endswith("help"))
            return _nearest(".".join(filter(None, match.groups())), known, "--" if match[3] else "")
        needs_model = line.endswith(".model") or "AudioModule" in line
        return ": name a recipe in --config first, or a class in --model" if needs_model else ""


class ConfigFile(ActionConfigFile):
    """``--config FILE``: errors in the file name it."""

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: str | None = None) -> None:
        OneLineParser.config_file = str(values) if os.path.isfile(values) else None
        try:
            super().__call__(parser, cfg, values, option_string)
        except UnicodeDecodeError as error:
            parser.error(str(error))
        OneLineParser.config_file = None


def tool_parser(tool: Callable[..., Any], prog: str) -> OneLineParser:
    """A parser of a function's arguments: lists take several words, and switches (``bool``) none."""
    description, documented = (inspect.getdoc(tool) or "").split("\n\nArgs:")[0], parse_docstring(tool.__doc__ or "")
    parser = OneLineParser(prog=prog, description=description)
    help_of, hints, added = (
        {one.arg_name: one.description for one in documented.params},
        get_type_hints(tool),
        set[str | int]({"command"}),
    )
    for name, parameter in inspect.signature(tool).parameters.items():
        required = parameter.default is parameter.empty
        details: dict[str, Any] = {"help": help_of.get(name)}
        if hints[name] is bool:
            parser.add_argument(f"--{name}", action="store_true", **details)
        elif get_origin(hints[name]) in (list, abc.Sequence):
            details |= {"nargs": "+", "type": get_args(hints[name])[0]}
            details |= {} if required else {"default": list(parameter.default)}
            parser.add_argument(name if required else f"--{name}", **details)
        else:
            continue
        added.add(name)
    parser.add_function_arguments(tool, as_group=False, as_positional=True, skip=added)
    return parser


def _nearest(name: str, known: Iterable[str], prefix: str = "") -> str:
    found = get_close_matches(name, sorted(set(known)), n=1, cutoff=0.7)
    return f": did you mean {prefix}{found[0]}?" if found else ""


def _nearest_file(path: Path) -> str:
    """A file in the same folder, or a recipe of the project."""
    neighbors = {file.stem: file for file in path.parent.glob("*.y*ml")}
    recipes = {str(file.relative_to(config_folder()).with_suffix("")): file for file in config_folder().rglob("*.yaml")}
    for name, known in ((path.stem, neighbors), ("/".join([*path.parts[-2:-1], path.stem]), recipes)):
        if found := get_close_matches(name, sorted(known), n=1, cutoff=0.75):
            file = known[found[0]]
            return f": did you mean {file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file}?"
    return ""
