"""Files by path or URL: a local path, or anything that fsspec opens (``s3://``, ``http://``, ``memory://``, ``file://``).

Local files are read by the operating system's own calls, remote ones through fsspec, which keeps its file systems by
itself, one set a process: nothing here has to survive a fork.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import fsspec

_WITHOUT_LISTING = ("http", "https")  # a web server does not list its folders


def is_url(path: str | os.PathLike[str]) -> bool:
    """Whether this is for fsspec; ``file://`` URLs are not, see `local_path`."""
    return "://" in os.fspath(path) and not os.fspath(path).startswith("file://")


def local_path(path: str | os.PathLike[str]) -> str:
    """The path as text, ``file://`` taken off; other URLs stay as they are."""
    return os.fspath(path).removeprefix("file://")


def for_libsndfile(path: str) -> str | bytes:
    """A local path as soundfile takes it: names of files may be any bytes, which it would refuse to encode."""
    return os.fsencode(path) if os.name == "posix" else path


def join(root: str, name: str) -> str:
    """``name`` in the folder ``root``; an absolute name or a URL stays as it is."""
    if is_url(name) or name.startswith("file://"):
        return local_path(name)
    return f"{root.rstrip('/')}/{name}" if is_url(root) and not name.startswith("/") else os.path.join(root, name)


def parent(path: str) -> str:
    """The folder that a file lies in."""
    return path.rpartition("/")[0] if is_url(path) else os.path.dirname(path)


def exists(path: str) -> bool:
    """Whether there is a file; OSError where it cannot be asked for (no connection)."""
    if not is_url(path):
        return os.path.isfile(path)
    with _remote(path) as (system, inside):
        try:  # not isfile, to which a server that does not answer has no file
            return bool(system.info(inside)["type"] == "file")
        except FileNotFoundError:
            return False


def open_binary(path: str) -> IO[bytes]:
    """A file object to read from; ValueError for a protocol without its library, with what to install."""
    if not is_url(path):
        return open(path, "rb")
    system, inside = _system(path)
    return system.open(inside, "rb")


class RangeReader:
    """Reads parts of files, each by one call. May be pickled and forked: reading keeps no position.

    OSError where there is no such file, no connection, or the file ends before the part does.
    """

    _MAX_OPEN = 256  # a process may have so many files open, and a data set more shards than that

    def __init__(self) -> None:
        self._open: dict[str, IO[bytes]] = {}

    def __call__(self, path: str, start: int, size: int) -> bytes:
        if is_url(path):
            with _remote(path) as (system, inside):
                part = system.cat_file(inside, start=start, end=start + size)
        else:
            if path not in self._open:
                if len(self._open) >= self._MAX_OPEN:
                    self._open.pop(next(iter(self._open))).close()
                self._open[path] = open(path, "rb", buffering=0)  # noqa: SIM115 - closed when it is dropped
            part = os.pread(self._open[path].fileno(), size, start)
        if len(part) != size:
            raise OSError(f"ends before byte {start + size}")
        return part

    def __getstate__(self) -> dict[str, Any]:
        return {"_open": {}}


def list_names(folder: str) -> set[str] | None:
    """Names in a folder, nothing where there is none; None: this storage cannot list its folders."""
    if not is_url(folder):
        return set(os.listdir(folder)) if os.path.isdir(folder) else set()
    if folder.startswith(_WITHOUT_LISTING):
        return None
    system, inside = _system(folder)
    try:
        return {entry.rstrip("/").rpartition("/")[2] for entry in system.ls(inside, detail=False)}
    except FileNotFoundError:
        return set()


@contextmanager
def _remote(url: str) -> Iterator[tuple[Any, str]]:
    """The file system of a URL, and the path there. Errors of the protocols' libraries become OSErrors."""
    system, inside = _system(url)
    try:
        yield system, inside
    except OSError:
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise OSError(f"{url} cannot be reached: {reason}") from error


def _system(url: str) -> tuple[Any, str]:
    try:
        return fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:  # the message names the package of the protocol, or that none is known
        raise ValueError(f"{url}: {error}") from error
