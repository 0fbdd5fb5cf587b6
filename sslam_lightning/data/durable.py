"""Files that appear whole or not at all, and never in the place of another."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO


def refuse_existing(*paths: str) -> None:
    """Raise FileExistsError if there is something already."""
    for path in paths:
        if os.path.lexists(path):
            raise FileExistsError(f"{path} exists already: move it, or name another with --out")


@contextmanager
def new_file(path: str) -> Iterator[IO[bytes]]:
    """A file to write to, which gets its name when everything in it is on the disk.

    Raises:
        FileExistsError: there is a file of this name.
        OSError: the disk is full, the folder read-only and so on; the message names the file.
    """
    refuse_existing(path)
    unfinished = f"{path}.unfinished"
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(unfinished, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        if os.path.exists(unfinished):
            os.unlink(unfinished)


def cannot_write(path: str, error: OSError) -> OSError:
    """The same error with the file in its message; those of a full disk do not name it."""
    if error.filename is not None and error.filename != f"{path}.unfinished":
        return error
    return OSError(error.errno, f"cannot write {path}: {error.strerror or error}")
