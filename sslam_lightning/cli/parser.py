"""Parsers whose errors are one line, with the name that a misspelt one may have meant."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections import abc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, NoReturn, get_args, get_origin, get_type_hints

import yaml
from docstring_parser import parse as parse_docstring
from jsonargparse import ActionConfigFile, ArgumentParser, Namespace

from sslam_lightning.cli.parse_errors import one_line
from sslam_lightning.runtime.configs import config_name, find_config, shipped_configs

NESTING = ("init_args", "dict_kwargs")  # words of jsonargparse, between a class and its settings
_SETTING = re.compile(
    r"(?:Parser key \"|Group '|[Oo]ption '|unrecognized arguments: --)([\w.]+)(?:' does not accept option '([\w.]+))?"
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
    words: ClassVar[Sequence[str]] = ()  # behind the command
    config_file: ClassVar[str | None] = None  # the one that is being read
    places: ClassVar[dict[str, tuple[Any, str]]] = {}  # value and file of what configuration files have set, by whole key
    decided_elsewhere: ClassVar[Sequence[str]] = ()  # settings that are never suggested
    is_trial: ClassVar[bool] = False  # nothing is printed

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{**options, "allow_abbrev": False})  # or --trainer.max_step would be max_steps

    def parse_args(  # type: ignore[override]  # as jsonargparse's own
        self, args: Sequence[str] | None = None, *others: Any, **options: Any
    ) -> Namespace:
        """A class inside another is handed null as Python writes it, which would be text."""
        if args and len(args) == 1 and args[0].endswith("=None"):
            args = [args[0].removesuffix("None") + "null"]
        return super().parse_args(args, *others, **options)

    @classmethod
    def begin(cls, command: str, words: Sequence[str]) -> None:
        """Forget the command before."""
        OneLineParser.command, OneLineParser.words, OneLineParser.config_file = command, words, None
        OneLineParser.places.clear()

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print what is wrong, with the name that may have been meant and the command whose help tells more."""
        line = one_line(message)
        meant = self._meant(line)
        if self.is_trial:
            raise _Refused(meant)
        hint = f": did you mean {meant}?" if meant else ""
        if line.endswith((".model", ": model")) or "AudioModule" in line:
            hint = hint or ": name a recipe in --config first, or a class in --model"
        where = self.config_file or ""
        if match := _SETTING.search(line):
            prefix, where = self._place(_key(match), line.partition("Got value: ")[2])
            line = line[: match.start(1)] + prefix + line[match.start(1) :]
        print(f"sslam: error: {where}{': ' * bool(where)}{line}{hint} (see {self.command} --help)", file=sys.stderr)
        sys.exit(2)

    def validate(self, namespace: Namespace, *args: Any, **options: Any) -> None:
        """Null is a value like any other, which a setting's type takes or refuses."""
        self.check_groups(namespace)
        try:
            super().validate(namespace, *args, **{**options, "skip_unset": False})
        except TypeError:
            super().validate(namespace, *args, **options)  # what is missing is told as such
            raise

    def check_groups(self, settings: Namespace) -> None:
        """Raise TypeError for null or another value in the place of a table of settings, which the parser lets through."""
        absent = {action.dest for action in self._actions if action.default is None}  # the model before one is named
        for name in (self.groups or {}).keys() - absent:
            value = settings.get(name, {})
            if value is None or isinstance(value, (bool, int, float, list)):
                raise TypeError(f'Parser key "{name}": Expected a table of settings. Got value: {value}')

    def _place(self, key: str, value: str) -> tuple[str, str]:
        """What stood before a key where the user gave it, since a class knows its own settings alone, and the file."""
        given = {whole: "" for whole, _ in flat({word[2:].split("=")[0]: 0 for word in self.words if word[:2] == "--"})}
        given |= {whole: file for whole, (one, file) in self.places.items() if str(one) == value}
        if self.config_file:
            with suppress(yaml.YAMLError, UnicodeDecodeError):
                content = yaml.safe_load(Path(self.config_file).read_text())
                given = {whole: self.config_file for whole, _ in flat(content)}
        found = next((whole for whole in given if f".{whole}".endswith(f".{key}")), None)
        return (found.removesuffix(key), given[found]) if found else ("", self.config_file or "")

    def _meant(self, line: str) -> str:
        """What comes close to the name that a message complains of."""
        if match := _MISSING_FILE.search(line):
            return _nearest_config(Path(match[1]))
        if match := _UNKNOWN_CLASS.search(line):
            packages = map(import_module, _CLASSES_IN)
            classes = (name for package in packages for name in getattr(package, "__all__", dir(package)))
            return _nearest(match[match.lastindex or 0].strip(".").rpartition(".")[2], classes)
        if (match := _SETTING.search(line)) and not match[0].startswith("Parser key"):
            key, dashes = _key(match), "--" * ("--" in match[0])
            prefix, _ = self._place(key, "")
            known = [action.dest for action in self._actions if not action.dest.endswith("help")]
            if found := _nearest(key, (name for name in known if prefix + name not in self.decided_elsewhere)):
                return dashes + prefix + found
            return self._mend_part(key, known) if dashes and not prefix else ""
        return ""

    def _mend_part(self, key: str, known: Iterable[str]) -> str:
        """The option with the name of its part, as ``--modle.masks_per_clip`` has it, mended and accepted by the parser."""
        part, _, name = key.partition(".")
        meant = f"{_nearest(part, {one.split('.')[0] for one in known})}.{name}"
        if meant in self.decided_elsewhere:
            return "--seed_everything" if name == "seed" else ""
        if self.is_trial or meant == key or meant.startswith("."):
            return ""
        words, mended = self.words, [re.sub(rf"^--{re.escape(key)}\b", f"--{meant}", word) for word in self.args]
        OneLineParser.is_trial, OneLineParser.words = True, mended
        try:
            self.parse_args(mended)
            return f"--{meant}"
        except _Refused as refused:
            return str(refused)
        finally:
            OneLineParser.is_trial, OneLineParser.words = False, words


class _Refused(SystemExit):
    """In place of a message: what may have been meant."""


class ConfigFile(ActionConfigFile):
    """``--config FILE``: a file, or a shipped one by its name; errors in it name it."""

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: str | None = None) -> None:
        path = find_config(values)
        OneLineParser.config_file = path if os.path.isfile(path) else None
        before = dict(flat(cfg.as_dict()))
        try:
            super().__call__(parser, cfg, path, option_string)
            parser.check_groups(cfg)
        except UnicodeDecodeError as error:
            parser.error(str(error))
        for key, value in flat(cfg.as_dict()):
            if key not in before or before[key] != value:
                OneLineParser.places[key] = value, OneLineParser.config_file or option_string or "--config"
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


def flat(settings: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting by its whole key as on a command line, so without `NESTING`; those in a list share its key."""
    if key:
        yield key, settings
    for inner in settings if isinstance(settings, list) else ():
        if isinstance(inner, (Mapping, Namespace)):
            yield from flat(inner, key)
    for name, value in settings.items() if isinstance(settings, Mapping) else ():
        parts = (part for part in str(name).split(".") if part not in NESTING)
        yield from flat(value, ".".join((key, *parts)).strip("."))


def _key(match: re.Match[str]) -> str:
    return ".".join(filter(None, match.groups()))


def _nearest(name: str, known: Iterable[str], cutoff: float = 0.7) -> str:
    return next(iter(get_close_matches(name, sorted(set(known)), n=1, cutoff=cutoff)), "")


def _nearest_config(path: Path) -> str:
    """A file in the same folder, or a shipped one by its name or by the end of it."""
    neighbors = {file.stem: file for file in path.parent.glob("*.y*ml")}
    if found := _nearest(path.stem, neighbors, 0.75):
        file = neighbors[found]
        return str(file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file)
    typed = config_name(str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path))
    names = list(shipped_configs())
    ends = {name.rpartition("/")[2]: name for name in names}
    return _nearest(typed, names, 0.75) or ends.get(_nearest(Path(typed).name, ends, 0.75), "")
