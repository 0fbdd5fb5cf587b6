"""Which recordings a command is asked about."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from sslam_lightning.data.stream import CONTAINERS

_EXTENSIONS = CONTAINERS | {".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64"}
STANDARD_INPUT = "-"


class Source(NamedTuple):
    """A recording, and what to call it."""

    name: str
    path: Path


def legible(name: str) -> str:
    r"""The name as proper Unicode: those of its bytes that are not UTF-8 become ``\udcXX``."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


@contextlib.contextmanager
def find_sources(inputs: Sequence[str], standard_input: BinaryIO | None = None) -> Iterator[list[Source]]:
    """Recordings in the order of ``inputs``; those of a folder by name, its subfolders included, each file once.

    Args:
        inputs: files (taken as they are), folders (searched for names that end like audio), or ``-``: one recording from
            standard input, which is kept on disk while the context lasts.
        standard_input: what ``-`` reads.

    Raises:
        FileNotFoundError: no such file or folder.
        ValueError: a folder without audio, or nothing on standard input.
    """
    with tempfile.TemporaryDirectory() as folder:
        found: dict[str, Path] = {}
        for name in inputs:
            if name == STANDARD_INPUT:
                found[name] = _keep(standard_input or sys.stdin.buffer, Path(folder) / "standard_input")
            elif os.path.isdir(name):
                found |= {path: Path(path) for path in _audio_in(name)}
            elif os.path.exists(name):
                found[name] = Path(name)
            else:
                raise FileNotFoundError(f"{name}: no such file or folder")
        yield [Source(name, path) for name, path in found.items()]


def _audio_in(folder: str) -> list[str]:
    paths = [
        os.path.join(parent, name)
        for parent, _, names in os.walk(folder)
        for name in names
        if os.path.splitext(name)[1].lower() in _EXTENSIONS and not name.startswith(".")
    ]
    if not paths:
        raise ValueError(f"{folder}: no audio in this folder (looked for {', '.join(sorted(_EXTENSIONS))})")
    return sorted(paths)


def _keep(stream: BinaryIO, path: Path) -> Path:
    with path.open("wb") as file:
        shutil.copyfileobj(stream, file)
    if not path.stat().st_size:
        raise ValueError("nothing came on standard input")
    return path
