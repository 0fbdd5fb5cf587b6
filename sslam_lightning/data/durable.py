"""Files that appear whole or not at all, and never in the place of another."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]

_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)  # as of some that are shared in clusters
_PATIENCE_SECONDS = 3.0


def refuse_existing(*paths: str) -> None:
    """Raise FileExistsError if there is something already."""
    for path in paths:
        if os.path.lexists(path):
            raise FileExistsError(f"{path} exists already: move it, or name another with --out")


@contextmanager
def only_one_run(path: str) -> Iterator[None]:
    """Hold a file, so that no other run works on the same. Processes of a killed run hold it until they notice.

    Raises:
        OSError: another run holds it.
    """
    with open(path, "rb") as file:
        hold(file, path)
        yield


def hold(file: IO[bytes], path: str) -> None:
    """Keep every other run from this file until it is closed; on a file system without locks nothing does.

    Raises:
        OSError: another run holds it.
    """
    if fcntl is None:  # no such locks on this system
        return
    end = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > end:
                raise OSError(f"another run is working on {path}: wait for it, or end it") from None
            time.sleep(0.05)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            return


def held_file(path: str) -> IO[bytes]:
    """A file to append to, made if there is none, that no other run works on until it is closed.

    Raises:
        OSError: another run holds it, or held it and has just taken it away.
    """
    file = open(path, "a+b", buffering=0)  # noqa: SIM115 - closed by who asked for it
    try:
        hold(file, path)
        if not os.path.exists(path) or not os.path.samestat(os.stat(path), os.fstat(file.fileno())):
            raise OSError(f"another run has just ended its work on {path}: look at what it made")
    except OSError:
        file.close()
        raise
    return file


def append_whole(file: IO[bytes], line: bytes, path: str) -> None:
    """Append to an unbuffered file, all of it or nothing.

    Raises:
        OSError: the disk is full.
    """
    end = os.fstat(file.fileno()).st_size
    if file.write(line) != len(line):
        file.truncate(end)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


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
