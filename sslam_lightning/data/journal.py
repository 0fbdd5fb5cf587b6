"""Results of a long piece of work, kept one a line, so that work which was killed goes on where it was."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from typing import Any

from sslam_lightning.data.durable import cannot_write


class Journal:
    """A file of JSON values in the order of the jobs. A last line that was cut off is taken away.

    Args:
        path: of the journal; begun if there is none.
        settings: what the results depend on; a journal of other settings is refused.

    Raises:
        FileExistsError: the journal is of other work.
        OSError: the disk is full, the folder read-only.
    """

    def __init__(self, path: str, settings: dict[str, Any]) -> None:
        self.path = path
        self.num_done = 0  # results that are there already
        first = json.dumps(settings) + "\n"
        try:
            if not os.path.exists(path):
                os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
                with open(path, "xb") as file:
                    file.write(first.encode("ascii"))
            else:
                self._resume(first)
            self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - closed by remove
        except FileExistsError:
            raise
        except OSError as error:
            raise cannot_write(path, error) from error

    def _resume(self, first: str) -> None:
        with open(self.path, "r+b") as file:
            if file.readline() != first.encode("ascii"):
                raise FileExistsError(
                    f"{self.path} is of other files or settings: give the same, or delete it to start anew"
                )
            end = file.tell()
            for line in file:
                if not line.endswith(b"\n"):
                    break
                end, self.num_done = end + len(line), self.num_done + 1
            file.truncate(end)

    def append(self, result: Any) -> None:
        """Add the next result; it survives the end of this process."""
        line = json.dumps(result).encode("ascii") + b"\n"
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def results(self) -> Iterator[Any]:
        """All results, from the first."""
        with open(self.path, "rb") as file:
            file.readline()
            yield from map(json.loads, file)

    def close(self) -> None:
        """Keep it, for another run to go on with."""
        self._file.close()

    def remove(self) -> None:
        """The work is done."""
        self._file.close()
        os.unlink(self.path)


def fingerprint(*parts: Iterable[str]) -> str:
    """A digest of lists of strings."""
    digest = hashlib.sha256()
    for strings in parts:
        for string in strings:
            digest.update(string.encode("utf-8", "surrogateescape") + b"\0")
        digest.update(b"\1")
    return digest.hexdigest()
