"""What jsonargparse complains about, in one line that says what came and what was expected."""

from __future__ import annotations

import re


def one_line(message: str) -> str:
    """The line of a nested parser error that tells what came and what was expected.

    jsonargparse tries every type that an option may have and reports all failures; the first one that is not about
    ``None`` is the user's.
    """
    message = message.split("Given value type:")[0]
    if "Errors:" in message:
        causes = re.split(r"\n\s*- ", message.split("Errors:")[-1].split("Subclass types expect")[0])
        causes = [cause for cause in causes if cause.strip() and "NoneType'>" not in cause]
        message = causes[0] if causes else message
    return " ".join(line.strip().removeprefix("- ") for line in message.splitlines() if line.strip(" -"))


def key_of(message: str) -> str | None:
    """The innermost key that a parser complains about, without the names of what its parser belongs to."""
    found = re.findall(r'key "([\w.]+)"', message)
    return found[-1] if found else None


def unfit_value(message: str, key: str | None = None) -> str | None:
    """``KEY must be KIND, got VALUE``, of kinds that cannot be told ``KEY cannot be VALUE``; None where it is about
    something else. KEY is the last part of the complaint's unless another is given."""
    line = " ".join(message.split())
    name = key or (key_of(line) or "").split(".")[-1]
    if found := re.search(r'key "[\w.]+"(?: element \d+)?: Expected an? (.+)\. Got value: ?(.*)', line):
        return f"{name} must be {_kinds(found[1]) or found[1]}, got {_null(found[2])}"
    if found := re.search(r'key "[\w.]+":(.*)Given value: (.*)', line):
        subtypes = re.search(r"Subtypes: \[(.*)\] Errors:", found[1])
        kinds = _kinds(subtypes[1]) if subtypes else None
        value = _null(found[2])
        return f"{name} must be {kinds}, got {value}" if kinds else f"{name} cannot be {value}"
    return None


def _null(value: str) -> str:
    return "null" if value == "None" else value


def _kinds(types: str) -> str | None:
    """Python's words for types in a reader's: ``of type int``, ``one of a, b``; None where there are others among them."""
    choices = [
        choice.strip("' ") for group in re.findall(r"typing\.Literal\[(.+?)\]", types) for choice in group.split(",")
    ]
    plain = re.sub(r"typing\.Literal\[.+?\]", "", types)
    classes = [name for name in re.findall(r"<class '([\w.]+)'>", plain) if name != "NoneType"]
    rest = re.sub(r"<class '[\w.]+'>", "", plain).strip(", ")
    if rest or any("." in name for name in classes):
        return None
    told = [f"of type {' or '.join(classes)}"] if classes else []
    return " or ".join([*told, *([f"one of {', '.join(dict.fromkeys(choices))}"] if choices else [])]) or None
