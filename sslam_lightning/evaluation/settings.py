"""Settings laid over others, as the command line layers files, and the objects that they describe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser


def read_yaml(path: Path) -> Any:
    """The content of a file; ValueError, naming it, if it is no YAML."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no YAML file: {str(error).splitlines()[0]}") from None


def deep_merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Tables are merged, anything else is replaced; neither argument is changed."""
    merged = dict(under)
    for name, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
        merged[name] = deep_merge(merged[name], value) if both else value
    return merged


def build(kind: type, where: str, settings: Mapping[str, Any], check_only: bool = False) -> Any:
    """The object of ``kind`` that ``class_path`` and ``init_args`` describe; with ``check_only`` None, and no file is read.

    Raises:
        ValueError: naming ``where`` and the setting that the class does not take, or whose value is of another type.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--settings", type=kind)
    try:
        parsed = parser.parse_object({"settings": dict(settings)})
        return None if check_only else parser.instantiate(parsed).settings
    except ArgumentError as error:
        raise ValueError(f"{where}: {' '.join(str(error).split())}") from None
