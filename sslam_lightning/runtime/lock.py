"""Files to append to that belong to one process at a time."""

from __future__ import annotations

import errno
import os
import time
from typing import IO

from sslam_lightning.runtime.atomic_write import cannot_write

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]

_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)  # as of some that are shared in clusters
_PATIENCE_SECONDS = 3.0  # processes of a killed run hold its files until they notice


def hold(file: IO[bytes], path: str) -> None:
    """Keep every other run from this file until it is closed; on a file system without locks nothing does.

    OSError if another run holds it.
    """
    if fcntl is None:
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

    OSError if another run holds it, or held it and has just taken it away.
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
    """Append to an unbuffered file, all of it or nothing."""
    end = os.fstat(file.fileno()).st_size
    try:
        if file.write(line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        file.truncate(end)
        raise cannot_write(path, error) from error
