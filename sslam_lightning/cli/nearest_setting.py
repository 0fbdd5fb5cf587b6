"""The setting that a misspelt key may have meant: one that this run's classes take, and that nothing else decides."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, get_args

from jsonargparse import ArgumentParser

from sslam_lightning.cli.arguments import arguments_of, is_known
from sslam_lightning.cli.command_line import NESTING, CommandLine
from sslam_lightning.cli.linked_settings import DECIDED_ELSEWHERE, OF_DATA

Arguments = dict[str, tuple[Any, Any]]  # type and default by name


def nearest_setting(key: str, given: CommandLine) -> str | None:
    """The key with its unknown parts mended; None where nothing that is accepted comes close.

    Args:
        key: as it was typed, or as it stands in a file.
        given: the rest of the command line, which names the classes.
    """
    families()  # else they are not known as subclasses yet
    parts, done, accepted = key.split("."), "", _top_level()
    for number, part in enumerate(parts):
        if part in NESTING:
            continue
        if part not in accepted:
            if part in ("seed", *OF_DATA) and done in ("model", "data"):
                return _instead(part, given)
            found = get_close_matches(part, sorted(accepted), n=1)
            if not found:
                return None
            parts[number] = found[0]
        hint, default = accepted[parts[number]]
        done = f"{done}.{parts[number]}".strip(".")
        accepted = {}
        for kind in _kinds(done, hint, default, given):
            taken = _taken_by(kind)
            accepted |= {name: taken[name] for name in taken if f"{done}.{name}" not in DECIDED_ELSEWHERE}
    return ".".join(parts)


def families() -> list[Any]:
    """The classes of this project that a recipe may name; they are imported."""
    from sslam_lightning import data, masking, mixing, objectives, training
    from sslam_lightning.training import callbacks, loggers

    ours = (training, data, masking, mixing, objectives, callbacks)
    return [loggers.WandbRun, *(getattr(family, name) for family in ours for name in family.__all__)]


def _top_level() -> Arguments:
    from lightning.pytorch import Trainer

    from sslam_lightning.data import SyntheticDataModule
    from sslam_lightning.data.module import AudioDataModule
    from sslam_lightning.training.module import AudioModule

    words = dict.fromkeys(("config", "ckpt_path", "print_config", "seed_everything"), (Any, None))
    parts = {"trainer": (Trainer, Trainer), "model": (AudioModule, None), "data": (AudioDataModule, SyntheticDataModule)}
    return {**words, **parts}


def _instead(name: str, given: CommandLine) -> str | None:
    """What decides a setting of the model or the data in its place."""
    if name == "seed":
        return "seed_everything"
    hint, default = _top_level()["data"]
    return f"data.{name}" if any(name in _taken_by(kind) for kind in _kinds("data", hint, default, given)) else None


def _taken_by(kind: type) -> Arguments:
    """The arguments of a class that a configuration may set."""
    names = ArgumentParser(exit_on_error=False).add_class_arguments(kind, "of", fail_untyped=False)
    known = arguments_of(kind) if is_known(kind) else {}
    return {name: known.get(name, (Any, None)) for name in (full.split(".")[1] for full in names)}


def _kinds(key: str, hint: Any, default: Any, given: CommandLine) -> list[type]:
    """The classes that are given at this key, or what stands there by default."""
    bases, named = [*_types(hint)], given.classes(key)
    if found := [kind for base in bases for kind in (base, *_below(base)) if kind.__name__ in named]:
        return found
    standing = default if isinstance(default, type) else type(default)
    return [standing] if is_known(standing) else [base for base in bases if is_known(base)]


def _types(hint: Any) -> Iterator[type]:
    if isinstance(hint, type):
        yield hint
    for inner in get_args(hint):
        yield from _types(inner)


def _below(kind: type) -> Iterator[type]:
    below: list[type] = [] if kind is type else kind.__subclasses__()
    for own in below:
        yield own
        yield from _below(own)
