"""What a user gave a run: the options of a command line, and the settings in its configuration files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import yaml

NESTING = ("init_args", "dict_kwargs")  # words of jsonargparse, between a class and its settings
_PARTS = ("model", "data")  # whose settings may stand in a file of their own: --model FILE


class Place(NamedTuple):
    """Where a setting was given: its whole key, and the file, or None for the command line."""

    key: str
    file: str | None = None

    def __str__(self) -> str:
        return f"{self.file}: {self.key}" if self.file else self.key


class CommandLine(NamedTuple):
    """The words behind ``sslam``, and the folder where they were typed: while the parser reads a file it works in that
    file's."""

    words: Sequence[str] = ()
    folder: Path = Path()

    def options(self) -> list[tuple[str, str]]:
        """Its options without their dashes, each with the word behind it."""
        words = [part for word in self.words for part in _split(word)]
        pairs = pairwise([*words, ""])
        return [(word.lstrip("-").rstrip("+"), value) for word, value in pairs if word.startswith("-")]

    def files(self) -> Iterator[tuple[str, Any]]:
        """The configurations in their order, and their content or why it cannot be read; they may be typed out, too."""
        for option, value in self.options():
            if option in ("c", "config"):
                yield self._read(value)

    def _read(self, value: str) -> tuple[str, Any]:
        path = self.folder / value
        is_file = os.path.isfile(path)  # False, too, where the text is too long for a name
        name = value if is_file else "--config"
        try:
            return name, yaml.safe_load(path.read_text() if is_file else value)
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            return name, error

    def place(self, key: str, value: str | None = None) -> Place:
        """Where a setting was given that a parser knows by the end of its key only, and by its value where it has one."""
        places = list(self._places(key))
        of_this_value = [place for place, given in places if given == value or (given, value) == ("null", "None")]
        return next(iter(of_this_value or [place for place, _ in places]), Place(key))

    def places(self, key: str) -> Iterator[Place]:
        """Wherever a setting was given by this whole key, `NESTING` left out; first what has the last word."""
        for option, value in reversed(self.options()):
            yield from self._places_in({option: _as_settings(value)}, key, None)
        for name, content in reversed(list(self.files())):
            yield from self._places_in(content, key, name)

    def _places_in(self, settings: Any, key: str, file: str | None) -> Iterator[Place]:
        """This key in settings of a file, or typed; and in a file of its own that they name for a part of the run."""
        if any(found == key for found, _ in _flat(settings, "")):
            yield Place(key, file)
        for part in _PARTS:
            named = settings.get(part) if isinstance(settings, dict) else None
            if isinstance(named, str) and os.path.isfile(
                self.folder / (path := os.path.join(os.path.dirname(file or ""), named))
            ):
                yield from self._places_in({part: self._read(path)[1]}, key, path)

    def _places(self, key: str) -> Iterator[tuple[Place, str]]:
        """All settings whose keys end so, with their values as text; first what has the last word."""
        for option, value in reversed(self.options()):
            # The parser knows an option of the trainer itself by its whole key.
            if option == key or (option.endswith(f".{key}") and not _is_of_the_trainer(option)):
                yield Place(option), value
        for name, content in reversed(list(self.files())):
            for found, given in _flat(content, ""):
                if f".{found}".endswith(f".{key}"):
                    yield Place(found, name), str(given)

    def classes(self, key: str) -> set[str]:
        """Names of the class that is given at this whole key, or of those of a list, without their modules."""
        found = [
            (place, value)
            for word in (f"{key}.class_path", key)
            for place, value in self._places(word)
            if place.key == word and not value.lstrip().startswith(("{", "["))
        ]
        found.sort(key=lambda placed: placed[0].file is not None)  # the command line has the last word
        return {value.rpartition(".")[2] for place, value in found if place == found[0][0]}

    def overlay_without_recipe(self) -> str | None:
        """The first configuration that has settings for a model whose class nothing before it names."""
        for option, value in self.options():
            if option in ("model", "model.class_path"):
                return None
            if option in ("c", "config"):
                name, content = self._read(value)
                if model := content.get("model") if isinstance(content, dict) else None:
                    return name if isinstance(model, dict) and "class_path" not in model else None
        return None


def _is_of_the_trainer(option: str) -> bool:
    return option.startswith("trainer.") and option.count(".") == 1


def _split(word: str) -> list[str]:
    """An option and the value that is glued to it, or a word alone."""
    if word.startswith("-c") and len(word) > 2:
        return ["-c", word[2:].removeprefix("=")]
    return word.split("=", 1) if word.startswith("-") else [word]


def _as_settings(value: str) -> Any:
    """A table of settings that was typed out; anything else as it is."""
    try:
        settings = yaml.safe_load(value) if value.lstrip().startswith("{") else value
    except yaml.YAMLError:
        return value
    return settings


def _flat(settings: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Every setting by its whole key as on a command line, so without `NESTING`; those of a list share its key."""
    if key:
        yield key, settings
    for inner in settings if isinstance(settings, list) else ():
        if isinstance(inner, dict):
            yield from _flat(inner, key)
    for name, value in settings.items() if isinstance(settings, dict) else ():
        parts = (part for part in str(name).split(".") if part not in NESTING)
        yield from _flat(value, ".".join((key, *parts)).strip("."))
