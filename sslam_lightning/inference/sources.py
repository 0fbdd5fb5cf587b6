"""Which recordings a command is asked about."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from sslam_lightning.data.audio.read import CONTAINERS
from sslam_lightning.data.files import walk
from sslam_lightning.data.image_file import IMAGE_EXTENSIONS

_SOUND = CONTAINERS | {".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64"}
_EXTENSIONS = {
    "sound": _SOUND,
    "an image": frozenset(IMAGE_EXTENSIONS),
    "a text": frozenset((".txt", ".md")),
}  # by the kind of an `EncoderModel`
STANDARD_INPUT = "-"


class Source(NamedTuple):
    """A recording, and what to call it."""

    name: str
    path: Path


def legible(name: str) -> str:
    r"""The name as proper Unicode: those of its bytes that are not UTF-8 become ``\udcXX``."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def check_inputs(inputs: str | Path | Sequence[str | Path]) -> list[str]:
    """The names of one input or several; what is not there is refused, before a model is opened for it.

    Raises:
        FileNotFoundError: no such file or folder.
    """
    names = [str(name) for name in ([inputs] if isinstance(inputs, (str, Path)) else inputs)]
    for name in names:
        if name != STANDARD_INPUT and not os.path.exists(name):
            raise FileNotFoundError(f"{name}: no such file or folder")
    return names


@contextlib.contextmanager
def progress_over(num_files: int, shown: bool) -> Iterator[Callable[[int], Any]]:
    """A bar over files on standard error, where that is a terminal and one is wanted."""
    from tqdm import tqdm

    with tqdm(total=num_files, unit="file", disable=None if shown else True) as bar:
        yield bar.update


@contextlib.contextmanager
def find_sources(
    inputs: Sequence[str], standard_input: BinaryIO | None = None, kind: str = "sound"
) -> Iterator[list[Source]]:
    """Files in the order of ``inputs``; those of a folder by name, its subfolders included, each file once.

    Links to folders are followed, as ``sslam data scan`` does, but no folder is entered twice.

    Args:
        inputs: files (taken as they are), folders (searched for names of the kind), or ``-``: one recording from
            standard input, which is kept on disk while the context lasts.
        standard_input: what ``-`` reads.
        kind: of the files that are looked for in folders: that of a model.

    Raises:
        FileNotFoundError: no such file or folder.
        OSError: a folder that must not be read.
        ValueError: a folder without audio, or nothing on standard input.
    """
    check_inputs(inputs)
    with tempfile.TemporaryDirectory() as folder:
        found: dict[str, Path] = {}
        for name in inputs:
            if name == STANDARD_INPUT:
                found[name] = _keep(standard_input or sys.stdin.buffer, Path(folder) / "standard_input")
            elif os.path.isdir(name):
                found |= {path: Path(path) for path in _files_in(name, kind)}
            else:
                found[name] = Path(name)
        yield [Source(name, path) for name, path in found.items()]


def _files_in(folder: str, kind: str) -> list[str]:
    extensions = _EXTENSIONS[kind]
    paths = [os.path.join(folder, name) for name in walk(folder) if os.path.splitext(name)[1].lower() in extensions]
    if not paths:
        what = {"sound": "audio", "an image": "images", "a text": "text"}[kind]
        raise ValueError(f"{folder}: no {what} in this folder (looked for {', '.join(sorted(extensions))})")
    return sorted(paths)


def _keep(stream: BinaryIO, path: Path) -> Path:
    with path.open("wb") as file:
        shutil.copyfileobj(stream, file)
    if not path.stat().st_size:
        raise ValueError("nothing came on standard input")
    return path
