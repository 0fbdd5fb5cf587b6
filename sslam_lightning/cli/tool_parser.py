"""The parser of the tools: no abbreviations, and complaints in one line with the nearest real option."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from itertools import takewhile
from typing import Any, NoReturn, get_args, get_origin

from jsonargparse import ArgumentParser

from sslam_lightning.cli.errors import nearest
from sslam_lightning.parser_complaints import one_line, unfit_value


class ToolParser(ArgumentParser):
    """Takes options by their whole names alone: a misspelt one must not be another's beginning."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{**options, "allow_abbrev": False})

    def _parse_optional(self, arg_string: str) -> Any:
        """An option of an option (``--data.root``) is for those that take a mapping alone; else it would go astray."""
        option = arg_string.partition("=")[0]
        parent = self._option_string_actions.get(option.partition(".")[0])
        if parent is not None and option not in self._option_string_actions and not _takes_a_mapping(parent):
            self.error(f"unrecognized arguments: {option}")
        return super()._parse_optional(arg_string)  # type: ignore[misc]

    def parse_args(self, args: Sequence[str] | None = None, *rest: Any, **options: Any) -> Any:  # type: ignore[override]
        """Refuse an option that is given twice: the first would be dropped in silence."""
        words = takewhile(lambda word: word != "--", sys.argv[1:] if args is None else args)
        typed = [word.partition("=")[0] for word in words if word.startswith("--")]
        twice = next((option for option in typed if typed.count(option) > 1 and not _may_come_again(option)), None)
        if twice:
            self.error(f"the option {twice} is given twice, of which one would be dropped: give it once")
        return super().parse_args(args, *rest, **options)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Name what came, point to the help, leave with code 2."""
        parser = getattr(ex, "subcommand_parser", None) or self
        command = parser.prog.replace(" [options]", "")
        if required := re.search(r"arguments are required: ([\w.]+)|expected \"([\w.]+)\.subcommand\" to be", message):
            inner = (required[1] or f"{required[2]}.").split(".")[
                :-1
            ]  # the commands below this one, as in data.scan.folder
            command = " ".join([command, *inner])
        options = [name for action in parser._actions for name in action.option_strings]
        print(f"sslam: error: {_explain(message, options)} (see {command} --help)", file=sys.stderr)
        sys.exit(2)


def _may_come_again(option: str) -> bool:
    """Files are layered, ``--data.root`` and the like are settings laid over a file's, and ``--x+`` appends."""
    return option == "--config" or "." in option or option.endswith("+")


def _takes_a_mapping(action: Any) -> bool:
    hint = getattr(action, "_typehint", None)
    return any(dict in (part, get_origin(part)) for part in (hint, *get_args(hint)))


def _explain(message: str, options: list[str]) -> str:
    line = one_line(message)
    if match := re.search(r"unrecognized arguments: (-\S+)", line):
        typed = match[1].split("=")[0]
        # Dashes would make any two options alike.
        return f"there is no option {typed}{nearest(typed.lstrip('-'), [option.lstrip('-') for option in options], '--')}"
    if match := re.search(r"unrecognized arguments: (.+)", line):
        return f"unexpected {match[1]}"
    if match := re.search(r"arguments are required: (?:[\w.]+\.)?(\w+)", line):
        return f"{match[1]} is missing"
    if match := re.search(r"invalid choice: '(.+?)' \(choose from (.+)\)", line):
        return f"there is no command {match[1]}, only {match[2].replace(chr(39), '')}"
    if match := re.search(r'subcommand" to be one of {(.+)}', line):
        return f"a command is missing: one of {match[1].replace(',', ', ')}"
    return unfit_value(message) or line
