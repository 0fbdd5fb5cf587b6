"""Files by path or URL: a local path, or anything that fsspec opens (``s3://``, ``http://``, ``memory://``, ``file://``).

Local files are read by the operating system's own calls. Remote ones are read through fsspec, whose file systems are
kept by fsspec itself, one set a process, so nothing here has to survive a fork.
"""

from __future__ import annotations

import os
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
    """Whether there is a file.

    Raises:
        OSError: it cannot be asked for: no connection, no permission.
    """
    if not is_url(path):
        return os.path.isfile(path)
    system, inside = _system(path)
    try:  # not isfile, to which a server that does not answer has no file
        return bool(system.info(inside)["type"] == "file")
    except FileNotFoundError:
        return False
    except Exception as error:
        raise _trouble(path, error) from error


def open_binary(path: str) -> IO[bytes]:
    """A file object to read from.

    Raises:
        OSError: no such file, or no connection.
        ValueError: a protocol that fsspec has no library for; the message says which to install.
    """
    if not is_url(path):
        return open(path, "rb")
    system, inside = _system(path)
    return system.open(inside, "rb")


class RangeReader:
    """Reads parts of files, each by one call. May be pickled and forked: reading keeps no position.

    Raises:
        OSError: no such file, no connection, or the file ends before the part does.
    """

    _MAX_OPEN = 256  # a process may have so many files open, and a data set more shards than that

    def __init__(self) -> None:
        self._open: dict[str, IO[bytes]] = {}

    def __call__(self, path: str, start: int, size: int) -> bytes:
        """``size`` bytes from ``start`` on."""
        if is_url(path):
            system, inside = _system(path)
            try:
                part = system.cat_file(inside, start=start, end=start + size)
            except Exception as error:
                raise _trouble(path, error) from error
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


def file_size(path: str) -> int:
    """Bytes of a file; -1 where a server does not tell."""
    if not is_url(path):
        return os.path.getsize(path)
    system, inside = _system(path)
    size = system.size(inside)
    return -1 if size is None else int(size)


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


def _trouble(url: str, error: Exception) -> OSError:
    """The error as one of the operating system's: libraries of protocols have classes of their own."""
    if isinstance(error, OSError):
        return error
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return OSError(f"{url} cannot be reached: {reason}")


def _system(url: str) -> tuple[Any, str]:
    try:
        return fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:  # the message names the package of the protocol, or that none is known
        raise ValueError(f"{url}: {error}") from error
