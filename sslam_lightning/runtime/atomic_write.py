"""Files that are complete or as they were before, whatever interrupts who writes them."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def replacing(path: Path, several_writers: bool = False) -> Iterator[Any]:
    """A file that has its name only when it is complete.

    Args:
        path: the file.
        several_writers: whether other processes may write it at the same time; the last one's stands. (With one writer, the
            next one takes the place of what a kill left behind.)
    """
    own = f".{uuid.uuid4().hex[:8]}" if several_writers else ""
    partial = path.with_name(f"{path.name}{own}.partial")
    try:
        with partial.open("w+b") as file:  # HDF5 reads what it writes
            yield file
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def refuse_existing(*paths: str) -> None:
    """Raise FileExistsError if there is something already."""
    for path in paths:
        if os.path.lexists(path):
            raise FileExistsError(f"{path} exists already: move it, or name another with --out")


@contextmanager
def new_file(path: str) -> Iterator[IO[bytes]]:
    """A file that gets its name when everything in it is on the disk; its folder is made.

    Raises:
        FileExistsError: there is a file of this name.
        OSError: the disk is full, the folder read-only and so on; the message names the file.
    """
    refuse_existing(path)
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with replacing(Path(path)) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: str, error: OSError) -> OSError:
    """The same error with the file in its message; those of a full disk do not name it."""
    if error.filename is not None and os.fspath(error.filename) != f"{path}.partial":
        return error
    return OSError(error.errno, f"cannot write {path}: {error.strerror or error}")
