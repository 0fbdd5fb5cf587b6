"""Settings that a checkpoint brings: other people's data, which may name this project's classes and no other code."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sslam_lightning.checkpoints.archive import open_archive

# The parser imports what looks like the path of a class, in the place of an object too, and it reads any string as YAML, or
# as the name of a file with settings. So a string has to be a plain word, or one of this project's classes.
_OWN = re.compile(r"sslam_lightning(\.\w+)+")
_WORD = re.compile(r"[\w+-]*")
_CLASS = ("class_path", "_class_path")
_TEXT = ("init_from", "class_names", "model", "token_module")  # these are strings whatever they look like


def refuse_foreign_classes(path: Path, config: Any) -> None:
    """Refuse settings of a checkpoint for which the parser would import what the user's own configuration does not name.

    Raises:
        ValueError: naming the first such class.
    """
    given = {text for _, text in _strings(config, "")}
    settings = open_archive(path).get("hyper_parameters") or {}
    if not isinstance(settings, Mapping):
        raise ValueError(f"the hyper_parameters in {path} must be a table of settings, got {type(settings).__name__}")
    settings = {name: value for name, value in settings.items() if name != "_instantiator"}  # which nothing follows here
    for key, text in _strings(settings, ""):
        is_word = key not in _CLASS and _WORD.fullmatch(text) and not Path(text).is_file()
        if not (is_word or key in _TEXT or _OWN.fullmatch(text) or text in given):
            raise ValueError(
                f"the settings in {path} name {text[:100]!r}, which is no class of this project; if it is yours, name it "
                "in a --config too"
            )


def _strings(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Every string below a value, with the key that it, or its list, stands under."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _strings(inner, str(name))
    elif isinstance(value, Sequence):
        for inner in value:
            yield from _strings(inner, key)
